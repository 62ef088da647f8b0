"""A tuned prior as an artifact: tune, fit the temperature, measure before and after, store.

The temperature is fitted, and early stopping decided, on one half of the held-out instances; the
report is about the other half. What is measured is the stored adapter, read back from disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cepcli.artifacts import Artifact, Input, Workspace, read_json, write_json, writing
from cepcli.config import read_toml, to_dict, write_toml
from cepcli.prior.base import Prior, PriorShape, UniformPrior
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.decisions import Decision
from cepcli.prior.evaluate import PriorQuality, ask, evaluate_prior, fit_temperature
from cepcli.prior.finetune import Tuner, TuningStep, choose_shots, subset
from cepcli.prior.hf import HFScorer
from cepcli.prior.language_model import load_language_model
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import DEFAULT_NORMALISATION
from cepcli.prior.prompts import PromptTemplate

CHECKPOINT = "checkpoint.safetensors"
_RECIPE = "recipe.json"


@dataclass(frozen=True, slots=True)
class TuningData:
    """What a prior is tuned on.

    Attributes:
        env_id: the environment.
        family: its family; names the prompt template.
        train: decisions of all demonstrated training episodes.
        validation: held-out decisions that stop the tuning and fit a temperature.
        test: other held-out decisions, to report on.
        source: the demonstrations or annotations that they are from.
    """

    env_id: str
    family: str
    train: Sequence[Decision]
    validation: Sequence[Decision]
    test: Sequence[Decision]
    source: Input


@dataclass(frozen=True, slots=True)
class TuningHooks:
    """Who is told about the progress of a tuning."""

    on_step: Callable[[TuningStep], None] | None = None
    on_note: Callable[[str], None] | None = None

    def note(self, text: str) -> None:
        """Say that something that takes seconds begins."""
        if self.on_note:
            self.on_note(text)


def default_prior_name(env_id: str, shots: int) -> str:
    """The name of a tuned prior unless it is named otherwise."""
    return f"{env_id.replace('/', '-')}-{shots}shot"


def tune_prior(
    data: TuningData,
    config: FinetuneConfig,
    workspace: Workspace,
    name: str,
    *,
    before: PriorQuality,
    device: str = "cpu",
    overwrite: bool = False,
    hooks: TuningHooks | None = None,
) -> Artifact:
    """Make the artifact `name` of kind "prior"; goes on where an equal, killed tuning stopped.

    `before` is what `untuned_quality` says of the same decisions, for the report.

    Raises:
        ArtifactError: if the name is taken, or the held-out decisions are of one instance only.
        PriorError: if the model cannot be had, or there are too few demonstrations.
    """
    hooks = hooks or TuningHooks()
    shots = choose_shots(data.train, config.shots, config.seed)
    template = PromptTemplate(data.family)
    with workspace.lock("prior", name):
        folder = _begin(workspace, name, data, config, template.version, overwrite, hooks)
        hooks.note(f"Loading {config.model}")
        model = load_language_model(config.model, dtype=config.dtype, device=device)
        tuner = Tuner(model, template, shots, data.validation, config, folder / CHECKPOINT)
        tuner.run(hooks.on_step)
        with writing(workspace.root):
            tuner.adapter.save(folder)
        hooks.note("Fitting the temperature")
        prior, temperature = _calibrated(folder, template, data.validation, config, device)
        hooks.note(f"Measuring on {len(data.test)} held-out decisions")
        after = evaluate_prior(prior, data.test)
        card = {
            "model": config.model,
            "revision": model.revision,
            "env": data.env_id,
            "family": data.family,
            "template": template.version,
            "normalisation": config.normalisation,
            "temperature": temperature,
            "smoothing": config.smoothing,
            "dtype": model.dtype,
            "shots": config.shots,
        }
        report = {
            "shots": config.shots,
            "train_decisions": len(shots),
            "validation": tuner.history,
            "before": asdict(before),
            "after": asdict(after),
        }
        with writing(workspace.root):
            write_json(folder / "prior.json", card)
            write_json(folder / "report.json", report)
            write_toml(folder / "config.toml", config)
            for leftover in (CHECKPOINT, _RECIPE):
                (folder / leftover).unlink(missing_ok=True)
        return workspace.finish("prior", name, seed=config.seed, inputs=[data.source])


def report_row(label: str, quality: PriorQuality | dict[str, Any]) -> dict[str, Any]:
    """One line of a table of priors."""
    row = quality if isinstance(quality, dict) else asdict(quality)
    return {"prior": label, **row}


def uniform_quality(decisions: Sequence[Decision]) -> PriorQuality:
    """What knowing nothing scores on the decisions."""
    return evaluate_prior(UniformPrior(), decisions)


def untuned_quality(
    family: str, test: Sequence[Decision], config: FinetuneConfig, device: str
) -> PriorQuality:
    """The model of `config` before tuning, as `--prior` with its name would use it."""
    template = PromptTemplate(family)
    model = load_language_model(config.model, dtype=config.dtype, device=device)
    scorer = HFScorer(model, template=template.version, row_tokens=config.row_tokens)
    shape = PriorShape(smoothing=config.smoothing)
    return evaluate_prior(LLMPrior(scorer, template, DEFAULT_NORMALISATION, shape), test)


def is_made_so(workspace: Workspace, name: str, data: TuningData, config: FinetuneConfig) -> bool:
    """Whether the prior `name` of the workspace is finished and was tuned with just these."""
    if not workspace.exists("prior", name):
        return False
    artifact = workspace.open("prior", name)
    inputs = [found["sha256"] for found in artifact.manifest["inputs"]]
    same = read_toml(artifact.path / "config.toml") == to_dict(config)
    return same and data.source.sha256 in inputs


def _begin(
    workspace: Workspace,
    name: str,
    data: TuningData,
    config: FinetuneConfig,
    template: str,
    overwrite: bool,
    hooks: TuningHooks,
) -> Path:
    """The unfinished artifact's directory: the one that an equal tuning left, else a fresh one."""
    recipe = {
        "config": to_dict(config),
        "template": template,
        "demos": data.source.sha256,
        "heldout_split": 2,
    }
    partial = workspace.partial("prior", name)
    left = (partial / CHECKPOINT).is_file() and (partial / _RECIPE).is_file()
    if left and (overwrite or not workspace.exists("prior", name)):
        if read_json(partial / _RECIPE) == recipe:
            hooks.note(f"Going on where the tuning of {name} stopped")
            return partial
        hooks.note(f"Starting {name} anew: what was left of it had other settings")
    folder = workspace.begin("prior", name, overwrite=overwrite)
    with writing(workspace.root):
        write_json(folder / _RECIPE, recipe)
    return folder


def _calibrated(
    folder: Path,
    template: PromptTemplate,
    validation: Sequence[Decision],
    config: FinetuneConfig,
    device: str,
) -> tuple[Prior, float]:
    """The stored adapter as a prior, with the temperature that suits the validation decisions."""
    model = load_language_model(config.model, dtype=config.dtype, device=device, adapter=folder)
    scorer = HFScorer(model, template=template.version, row_tokens=config.row_tokens)

    def prior(temperature: float) -> Prior:
        shape = PriorShape(temperature=temperature, smoothing=config.smoothing)
        return LLMPrior(scorer, template, config.normalisation, shape)

    chosen = subset(validation, config.validation_decisions, config.seed)
    answers = ask(prior(1.0), chosen)
    labels = [decision.label for decision in chosen]
    temperature = fit_temperature([a.scores for a in answers], labels, config.smoothing)
    return prior(temperature), temperature
