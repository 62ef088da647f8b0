"""A tuned prior as an artifact: tune, fit the temperature, measure before and after, store.

The temperature is fitted, and early stopping decided, on one half of the held-out instances; the
report is about the other half. What is measured is the stored adapter, read back from disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.config import build, read_toml, to_dict, write_toml
from cepcli.errors import PriorError
from cepcli.posterior import kl_divergence
from cepcli.prior.base import Prior, PriorAnswer, PriorShape, UniformPrior
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.load import DEFAULT_NORMALISATION, templates_in
from cepcli.prior.local.adapter import vocabulary_sha256
from cepcli.prior.local.language_model import load_language_model
from cepcli.prior.prompts import PromptTemplate
from cepcli.prior.tuning.choice import choose_shots
from cepcli.prior.tuning.evaluate import PriorQuality, fit_temperature, quality
from cepcli.prior.tuning.finetune import Tuner, TuningStep, prior_maker, subset
from cepcli.prior.tuning.lessons import Lesson, TuningData, ask_lessons
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json, writing

CHECKPOINT = "checkpoint.safetensors"
_RECIPE = "recipe.json"
#: Digits of an NLL that are shown; a difference that is not seen refuses no prior.
_NLL_DIGITS = 3


@dataclass(frozen=True, slots=True)
class TuningHooks:
    """Who is told about the steps of a tuning, and in one line about what takes seconds."""

    on_step: Callable[[TuningStep], None] | None = None
    note: Callable[[str], None] = lambda text: None


class Measured(NamedTuple):
    """A prior's answers to decisions, and what they are worth."""

    quality: PriorQuality
    answers: list[PriorAnswer]


class WorseThanChanceError(PriorError):
    """A tuned prior that knows less of an environment's held-out decisions than the uniform one.

    Attributes:
        quality: what it came to on all decisions.
    """

    def __init__(self, name: str, env_id: str, worse: PriorQuality, quality: PriorQuality) -> None:
        super().__init__(
            f"The tuned prior `{name}` is worse than chance on held-out decisions of `{env_id}`: "
            f"NLL {worse.nll:.{_NLL_DIGITS}f} against {worse.chance_nll:.{_NLL_DIGITS}f} nats; it "
            "is not kept.",
            "More shots, other shots (--choice diverse) or a smaller learning_rate may help; "
            "--force keeps it as it is.",
        )
        self.quality = quality


def default_prior_name(env_ids: Sequence[str], shots: int) -> str:
    """The name of a tuned prior unless it is named otherwise."""
    return f"{'_'.join(env_ids).replace('/', '-')}-{shots}shot"


def tune_prior(
    data: Sequence[TuningData],
    config: FinetuneConfig,
    workspace: Workspace,
    name: str,
    *,
    before: Measured,
    device: str = "cpu",
    overwrite: bool = False,
    force: bool = False,
    hooks: TuningHooks | None = None,
) -> Artifact:
    """Make the artifact `name` of kind "prior"; goes on where an equal, killed tuning stopped.

    Args:
        data: of each environment; all give as many shots to one adapter.
        config: how.
        workspace: where the artifact goes.
        name: its name.
        before: what `measure_untuned` says of the same decisions.
        device: where to tune.
        overwrite: replace one that has the name.
        force: keep it even where it is worse than chance.
        hooks: who is told.

    Raises:
        ArtifactError: if the name is taken, or the held-out decisions are of one instance only.
        PriorError: if the model cannot be had, or there are too few demonstrations.
        WorseThanChanceError: if it is so on any environment; the tuning is left so that `force`
            finishes it.
    """
    hooks = hooks or TuningHooks()
    train, test = chosen_lessons(data, config), reporting_lessons(data)
    validation = [lesson for one in data for lesson in one.lessons(one.validation)]
    with workspace.lock("prior", name):
        folder = _begin(workspace, name, data, config, overwrite, hooks)
        hooks.note(f"Loading {config.model}")
        model = load_language_model(config.model, dtype=config.dtype, device=device)
        tuner = Tuner(model, train, validation, config, folder / CHECKPOINT)
        tuner.run(hooks.on_step)
        with writing(workspace.root):
            tuner.adapter.save(folder)
        hooks.note("Fitting the temperature")
        prior_of, temperature = _calibrated(folder, validation, config, device)
        hooks.note(f"Measuring on {len(test)} held-out decisions")
        after = _measured(prior_of, test)
        by_env = _by_env(data, after)
        for env_id, part in by_env.items():
            if round(part.nll, _NLL_DIGITS) > round(part.chance_nll, _NLL_DIGITS) and not force:
                raise WorseThanChanceError(name, env_id, part, after.quality)
        card = {
            "model": config.model,
            "revision": model.revision,
            "vocabulary": vocabulary_sha256(model.tokenizer),
            "env": ", ".join(one.env_id for one in data),
            "templates": _templates(data),
            "normalisation": config.normalisation,
            "temperature": temperature,
            "smoothing": config.smoothing,
            "text_tokens": config.text_tokens,
            "dtype": model.dtype,
            "shots": config.shots,
        }
        report = {
            "shots": config.shots,
            "train_decisions": len(train),
            "validation": tuner.history,
            "before": asdict(before.quality),
            "after": asdict(after.quality),
            "after_by_env": {env_id: asdict(part) for env_id, part in by_env.items()},
            "kl_from_untuned": _mean_kl(after, before),
        }
        with writing(workspace.root):
            write_json(folder / "prior.json", card)
            write_json(folder / "report.json", report)
            write_toml(folder / "config.toml", config)
            for leftover in (CHECKPOINT, _RECIPE):
                discard(folder / leftover)
        sources = [one.source for one in data]
        return workspace.finish("prior", name, seed=config.seed, inputs=sources)


def chosen_lessons(data: Sequence[TuningData], config: FinetuneConfig) -> list[Lesson]:
    """What is learned from: as many shots of each environment."""
    return [
        lesson
        for one in data
        for lesson in one.lessons(choose_shots(one.train, config.shots, config.seed, config.choice))
    ]


def reporting_lessons(data: Sequence[TuningData]) -> list[Lesson]:
    """What is reported on, of all environments."""
    return [lesson for one in data for lesson in one.lessons(one.test)]


def report_row(label: str, quality: PriorQuality | dict[str, Any]) -> dict[str, Any]:
    """One line of a table of priors."""
    return {"prior": label, **(quality if isinstance(quality, dict) else asdict(quality))}


def measure_uniform(lessons: Sequence[Lesson]) -> Measured:
    """What knowing nothing scores on the decisions."""
    return _measured(lambda template: UniformPrior(), lessons)


def measure_untuned(lessons: Sequence[Lesson], config: FinetuneConfig, device: str) -> Measured:
    """The model of `config` before tuning, as `--prior` with its name would use it."""
    model = load_language_model(config.model, dtype=config.dtype, device=device)
    shape = PriorShape(smoothing=config.smoothing)
    untuned = prior_maker(model, config, shape, normalisation=DEFAULT_NORMALISATION)
    return _measured(untuned, lessons)


def _measured(prior_of: Callable[[PromptTemplate], Prior], lessons: Sequence[Lesson]) -> Measured:
    answers = ask_lessons(prior_of, lessons)
    return Measured(_quality(answers, lessons), answers)


def _quality(answers: Sequence[PriorAnswer], lessons: Sequence[Lesson]) -> PriorQuality:
    return quality(
        [answer.log_prior for answer in answers],
        [lesson.decision.label for lesson in lessons],
        seconds=sum(answer.seconds for answer in answers) / len(answers),
    )


def _by_env(data: Sequence[TuningData], after: Measured) -> dict[str, PriorQuality]:
    """The quality of each environment's part."""
    answers = iter(after.answers)
    return {
        one.env_id: _quality([next(answers) for _ in one.test], one.lessons(one.test))
        for one in data
    }


def _mean_kl(after: Measured, before: Measured) -> float:
    """Mean KL(tuned‖untuned) in nats over the decisions."""
    pairs = zip(after.answers, before.answers, strict=True)
    divergences = [float(kl_divergence(new.log_prior, old.log_prior)) for new, old in pairs]
    return sum(divergences) / len(divergences)


def is_made_so(
    workspace: Workspace, name: str, data: Sequence[TuningData], config: FinetuneConfig
) -> bool:
    """Whether the prior `name` of the workspace is finished and was tuned with just these."""
    if not workspace.exists("prior", name):
        return False
    artifact = workspace.open("prior", name)
    if build(FinetuneConfig, read_toml(artifact.path / "config.toml")) != config:
        return False
    inputs = [made_of["sha256"] for made_of in artifact.manifest["inputs"]]
    templates = templates_in(read_json(artifact.path / "prior.json"))
    return inputs == [one.source.sha256 for one in data] and templates == _templates(data)


def _templates(data: Sequence[TuningData]) -> dict[str, str]:
    return {one.family: PromptTemplate(one.family).version for one in data}


def _begin(
    workspace: Workspace,
    name: str,
    data: Sequence[TuningData],
    config: FinetuneConfig,
    overwrite: bool,
    hooks: TuningHooks,
) -> Path:
    """The unfinished artifact's directory: the one that an equal tuning left, else a fresh one."""
    recipe = {
        "config": to_dict(config),
        "templates": _templates(data),
        "demos": [one.source.sha256 for one in data],
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
    folder: Path, validation: Sequence[Lesson], config: FinetuneConfig, device: str
) -> tuple[Callable[[PromptTemplate], Prior], float]:
    """The stored adapter as a prior, with the temperature that suits the validation decisions."""
    model = load_language_model(config.model, dtype=config.dtype, device=device, adapter=folder)
    chosen = subset(validation, config.validation_decisions, config.seed)
    shape = PriorShape(smoothing=config.smoothing)
    answers = ask_lessons(prior_maker(model, config, shape), chosen)
    labels = [lesson.decision.label for lesson in chosen]
    temperature = fit_temperature([a.scores for a in answers], labels, config.smoothing)
    return prior_maker(model, config, replace(shape, temperature=temperature)), temperature
