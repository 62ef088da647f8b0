"""From a prior's name to a prior.

A name is "uniform", "embedded", a tuned prior in the workspace (or one that ships with cep), a
directory with a language model, or a hub id.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cepcli.artifacts import Artifact, Workspace, read_json
from cepcli.errors import PriorError
from cepcli.prior.base import Prior, PriorShape, Scorer, UniformPrior
from cepcli.prior.config import Normalisation, PriorConfig
from cepcli.registry import suggest

UNIFORM = "uniform"
EMBEDDED = "embedded"
#: Of an untuned model. Long actions are not at a disadvantage under the mean.
DEFAULT_NORMALISATION: Normalisation = "mean"


@dataclass(frozen=True, slots=True)
class PriorSource:
    """What a prior's name stands for.

    Attributes:
        model: the language model ("embedded", a directory, a hub id), or None for uniform.
        artifact: the tuned prior whose adapter is merged into it, if any.
        card: what was stored with that adapter ("family", "template", "temperature", …).
    """

    model: str | None
    artifact: Artifact | None
    card: dict[str, Any]

    @property
    def adapter(self) -> Path | None:
        """The directory of the adapter."""
        return self.artifact.path if self.artifact else None


def find_prior(name: str, workspace: Workspace) -> PriorSource:
    """What `name` stands for; loads no model.

    Raises:
        PriorError: if it is no known name, no directory, and cannot be a hub id.
    """
    if name == UNIFORM:
        return PriorSource(None, None, {})
    if name == EMBEDDED:
        return PriorSource(EMBEDDED, None, {})
    tuned = workspace.names("prior")
    if name in tuned:
        artifact = workspace.open("prior", name)
        card = read_json(artifact.path / "prior.json")
        return PriorSource(card["model"], artifact, card)
    if "/" in name or (name and Path(name).is_dir()):
        return PriorSource(name, None, {})
    raise PriorError(
        f"There is no prior `{name}`.",
        suggest(name, [UNIFORM, EMBEDDED, *tuned])
        + " A directory or a hub id (owner/model) works too.",
    )


def prior_inputs(name: str, workspace: Workspace) -> list[Artifact]:
    """The artifacts a prior is made of, for a manifest's inputs."""
    source = find_prior(name, workspace)
    return [source.artifact] if source.artifact else []


def load_prior(
    name: str,
    *,
    family: str,
    workspace: Workspace,
    config: PriorConfig,
    device: str,
    journal_path: Path | None = None,
) -> Prior:
    """The prior `name` for environments of `family`; its answers are journaled if a path is given.

    Raises:
        PriorError: if the prior does not exist, cannot be loaded, or was tuned for other prompts.
    """
    source = find_prior(name, workspace)
    if source.model is None:
        return UniformPrior()
    from cepcli.prior.hf import HFScorer
    from cepcli.prior.language_model import load_language_model
    from cepcli.prior.llm import LLMPrior
    from cepcli.prior.prompts import PromptTemplate

    template = PromptTemplate(family)
    _check_template(name, source, family, template.version)
    model = load_language_model(
        source.model, dtype=config.dtype, device=device, adapter=source.adapter
    )
    scorer: Scorer = HFScorer(model, template=template.version, row_tokens=config.row_tokens)
    if journal_path is not None:
        from cepcli.prior.journal import Journal, JournaledScorer

        scorer = JournaledScorer(scorer, Journal(journal_path))
    normalisation = (
        config.normalisation or source.card.get("normalisation") or DEFAULT_NORMALISATION
    )
    return LLMPrior(scorer, template, normalisation, _shape(config, source))


def _shape(config: PriorConfig, source: PriorSource) -> PriorShape:
    """The configured temperature, else the one fitted with the same normalisation, else 1."""
    temperature = config.temperature
    if temperature is None:
        same = config.normalisation in (None, source.card.get("normalisation"))
        temperature = source.card.get("temperature", 1.0) if same else 1.0
    return PriorShape(temperature=float(temperature), smoothing=config.smoothing)


def _check_template(name: str, source: PriorSource, family: str, version: str) -> None:
    tuned_with = source.card.get("template")
    if tuned_with in (None, version):
        return
    raise PriorError(
        f"The prior `{name}` was tuned with prompt template {tuned_with}, but {family} "
        f"environments use {version}.",
        "Tune one for this environment: cep prior finetune --env ID",
    )
