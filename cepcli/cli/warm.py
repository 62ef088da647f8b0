"""`cep cache warm`: fill a cache ahead of a run.

Example: cep cache warm --env babyai/goto-redball --prior goto-redball --demos 50 -o warm
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cepcli.cli.options import (
    DeviceOption,
    InsecureOption,
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
)
from cepcli.cli.prior_display import announce_first_use, interruptible, note, progress_bar
from cepcli.errors import ConfigError

if TYPE_CHECKING:
    from cepcli.cache.config import CacheConfig
    from cepcli.cache.warm import KnownScores
    from cepcli.keys.key_encoder import KeyEncoder
    from cepcli.prior.base import Namespace, PriorShape
    from cepcli.workspace.artifacts import Workspace

_DEMOS = 50


class _Source(NamedTuple):
    """Scores for a cache, and where they are from.

    Attributes:
        env: the environment's id.
        prior: the prior's name; None if it is not known.
        namespace: what the scores belong to.
        shape: how scores become a prior.
        scores: of each text.
        queries: states that the prior was asked about.
        paid: those of them for which the LLM was asked now.
    """

    env: str
    prior: str | None
    namespace: "Namespace"
    shape: "PriorShape"
    scores: "KnownScores"
    queries: int = 0
    paid: int = 0


def warm(
    output: Annotated[Path, typer.Option("--output", "-o", help="A new directory.")],
    trace: Annotated[
        str | None, typer.Option(help="A run made with --trace, or a trace's path; asks no LLM.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Environment whose expert's states the prior is asked about.")
    ] = None,
    demos: Annotated[
        int | None, typer.Option(min=1, help=f"With --env: episodes of the expert; {_DEMOS}.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="Whose scores: embedded, a tuned prior's name, a model.")
    ] = None,
    capacity: Annotated[int | None, typer.Option(help="Entries kept, the latest visited.")] = None,
    insecure: InsecureOption = False,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fill a cache ahead of a run: from a trace, or with a prior's answers along demonstrations.

    A --set key is one of the cache's, such as encoder=static; the mode is certified by default.
    """
    from cepcli.cache.disk import storage
    from cepcli.cache.warm import filled

    config = _config(capacity, set_ or [])
    storage.check_new(output)
    keys = _keys(config, device or "cpu", quiet) if config.keyed else None
    space = open_workspace(workspace)
    with interruptible("Type the command again: what the LLM has answered is in the journal."):
        if trace is not None:
            _refuse_with("--trace", {"--env": env, "--demos": demos})
            source = _from_trace(trace, prior, workspace)
        elif env is not None:
            name = _named(prior)
            source = _from_demos(
                env, demos or _DEMOS, name, config, space, device or "cpu", insecure, quiet
            )
        else:
            raise ConfigError("There is nothing to fill it from.", "Add --trace RUN, or --env ID.")
        note(quiet)(f"Making the keys of {len(source.scores)} texts")
        cache = filled(config, keys, source.namespace, source.shape, source.scores)
        storage.write_new(output, cache.saved())
    following = _following(source, output, config, set_ or [], capacity, workspace)
    if json:
        print_json(
            {"path": str(output), "entries": len(cache), "texts": len(source.scores),
             "queries": source.queries, "paid": source.paid, "head": bool(cache.key_head),
             "next": following}
        )  # fmt: skip
        return
    head = ", and a key head learned from them" if cache.key_head and not config.head else ""
    asked = "no LLM was asked"
    if source.queries:
        asked = f"{source.queries} LLM queries, {source.paid} of them paid now"
    typer.echo(f"{output}: {len(cache)} entries{head}; {asked}\nUse it: {following}")


def _config(capacity: int | None, sets: list[str]) -> "CacheConfig":
    from cepcli.cache.config import CacheConfig
    from cepcli.config import build, given, merge

    chosen = given(overrides=sets, flags={"capacity": capacity})
    config = build(CacheConfig, merge({"mode": "certified"}, chosen))
    if config.mode == "off":
        raise ConfigError("A cache of mode `off` keeps nothing.", "Try --set mode=exact")
    if config.start is not None:
        raise ConfigError(
            "`start` is for runs; a cache is filled from nothing.",
            "Caches of one namespace are joined by cep cache merge.",
        )
    return config


def _keys(config: "CacheConfig", device: str, quiet: bool) -> "KeyEncoder":
    """The key encoder; what a model makes of a text is kept, for a head has to see it again."""
    from cepcli.keys.encoder import EmbeddingTable, Remembering
    from cepcli.keys.key_encoder import make_key_encoder

    keys = make_key_encoder(
        config.encoder, focus=config.focus, head=config.head, device=device, notify=note(quiet)
    )
    if config.encoder == "hash":
        return keys
    return keys._replace(encoder=Remembering(EmbeddingTable(keys.encoder)))


def _refuse_with(flag: str, others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"`{name}` has no meaning beside `{flag}`.", "Keep one of the two.")


def _named(prior: str | None) -> str:
    """The prior to ask; refused before its demonstrations are recorded if it asks no LLM."""
    from cepcli.prior.load import UNIFORM

    if prior is None or prior == UNIFORM:
        said = "No prior is named." if prior is None else f"The prior `{prior}` asks no LLM."
        raise ConfigError(said, "Name one with --prior; see cep prior list")
    return prior


def _from_trace(name: str, prior: str | None, workspace: Path | None) -> _Source:
    """The fresh scores of a trace; its run's configuration says of which prior they are."""
    from cepcli.cache.trace import read_trace
    from cepcli.cache.warm import traced_scores
    from cepcli.cli.replay import find_trace
    from cepcli.config import read_toml

    path = find_trace(name, workspace)
    trace = read_trace(path)
    record = (path if path.is_dir() else path.parent) / "config.toml"
    recorded = read_toml(record).get("prior") if record.is_file() else None
    if None not in (prior, recorded) and prior != recorded:
        raise ConfigError(
            f"The trace `{name}` is of the prior `{recorded}`, not of `{prior}`.",
            "Leave --prior out.",
        )
    scores = traced_scores(trace)
    return _Source(trace.env, recorded or prior, trace.namespace, trace.shape, scores)


def _from_demos(
    env: str, episodes: int, name: str, config: "CacheConfig", space: "Workspace", device: str,
    insecure: bool, quiet: bool,
) -> _Source:  # fmt: skip
    """What the prior says of the states of an expert's first episodes, by way of the journal."""
    from cepcli.cache.warm import ask, distinct
    from cepcli.cli.demos import demos_for
    from cepcli.datasets.demonstrations import demos_decisions
    from cepcli.envs.catalog import spec
    from cepcli.prior.config import PriorConfig, ServerConfig
    from cepcli.prior.llm import LLMPrior
    from cepcli.prior.load import find_prior, load_prior

    family = spec(env).family
    announce_first_use(find_prior(name, space).model, quiet)
    prior = load_prior(
        name, family=family, workspace=space,
        config=PriorConfig(server=ServerConfig(insecure=insecure)), device=device,
        journal_path=space.root / "journal.sqlite",
    )  # fmt: skip
    assert isinstance(prior, LLMPrior), name
    found = demos_decisions(demos_for(env, None, episodes, space, quiet), "train")
    states = distinct(d.state for d in found if d.episode < episodes)[-config.capacity :]
    with progress_bar(f"Asking {name}", len(states), quiet) as advance:
        asked = ask(prior, states, advance)
    return _Source(
        env, name, prior.namespace("", family), prior.shape, asked.scores, asked.queries, asked.paid
    )


def _following(
    source: _Source, output: Path, config: "CacheConfig", sets: list[str], capacity: int | None,
    workspace: Path | None,
) -> str:  # fmt: skip
    """The command that starts a run from the cache, with the keys that it was made with."""
    words = ["cep", "train", "--env", source.env, "--prior", source.prior or "NAME"]
    words += ["--cache", config.mode, "--cache-from", str(output)]
    for given in sets:
        if given.partition("=")[0].strip() != "mode":
            words += ["--set", f"cache.{given}"]
    if capacity is not None:
        words += ["--set", f"cache.capacity={capacity}"]
    if workspace is not None:
        words += ["--workspace", str(workspace)]
    return shlex.join(words)
