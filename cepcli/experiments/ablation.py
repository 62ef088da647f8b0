"""What an ablation is: variants of one training run, declared as data; see `ablations`.

Words in braces in a table stand for what the sweep knows: `{env}`, its `{family}`, `{slug}` (its id
with dashes), `{prior}` (the one given, else the one tuned for the environment, else embedded),
`{label}` (what the names of the sweep's runs begin with), `{steps}` and `{seed}` of a run, and
`{folder}` (where files that are prepared lie).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIGURES = ("success", "return", "queries_per_decision", "queries_saved", "wall_seconds")

#: Kind of what a preparation makes where that is a file and no artifact.
FILE = "file"


@dataclass(frozen=True, slots=True)
class Preparation:
    """Something that runs need, made once by a command of cep and shared by all that need it.

    Attributes:
        kind: of the artifact that is made, or `FILE`.
        name: its name; of a file in `{folder}`.
        command: the arguments of `cep`, without workspace.
        needs: other preparations of the same table that come before, by their keys.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of an ablation.

    Attributes:
        config: of `cep train`, on top of the setup's.
        needs: preparations that come before its runs, by their keys.
        settings: a prepared TOML file in `{folder}` that lies between the two.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    settings: str | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """The runs of an ablation in one environment.

    Attributes:
        env: its id.
        base: configuration of `cep train` that all variants share, as nested plain values.
        variants: by name.
        baseline: the variant that retention is measured against.
        preparations: by key.
    """

    env: str
    base: Mapping[str, Any]
    variants: Mapping[str, Variant]
    baseline: str
    preparations: Mapping[str, Preparation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A figure that is no figure of a run: of an artifact that it used, or a measured one.

    Attributes:
        title: of the column.
        path: where it stands in the report, key by key.
        form: format of its values.
        artifact: the key of the run's configuration that names the artifact whose `report.json`
            tells; "" in a measurement.
    """

    title: str
    path: tuple[str, ...]
    form: str
    artifact: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured on a finished run, apart from what training says of itself.

    Attributes:
        command: the arguments of `cep`, without workspace and output; `{run}` is the run and
            `{baseline}` the baseline's of the same seed. It writes {"rows": [{"case": …}, …]}.
        title: of its table.
        columns: what is shown of each case.
        on: the variants whose runs are measured; all if empty.
    """

    command: tuple[str, ...]
    title: str
    columns: tuple[Column, ...]
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ablation:
    """A question and the runs that answer it.

    Attributes:
        name: what `cep ablate` calls it.
        question: what it answers, in one line.
        setups: where it can be asked; the first unless another is named.
        figures: keys of `cepcli.report.comparison.FIGURES` to show.
        columns: what else to show of each variant.
        measurement: what is measured on its runs, if training does not say it.
        frontier: whether the variants lie on one scale, so that those are marked that no other one
            beats in both score and share of hits.
    """

    name: str
    question: str
    setups: tuple[Setup, ...]
    figures: tuple[str, ...] = FIGURES
    columns: tuple[Column, ...] = ()
    measurement: Measurement | None = None
    frontier: bool = False
