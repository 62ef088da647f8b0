"""From a prior's name to a prior.

A name is "uniform", "embedded" or another model that cep fetches by name, a tuned prior in the
workspace (or one that ships with cep), a directory or a GGUF file with a language model, a hub id,
or `server:URL` of a server that holds one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cepcli.errors import PriorError
from cepcli.prior.base import Prior, PriorShape, Scorer, UniformPrior
from cepcli.prior.config import TEXT_TOKENS, Normalisation, PriorConfig
from cepcli.prior.local.embedded import EMBEDDED_MODELS
from cepcli.prior.local.gguf import gguf_file, is_gguf
from cepcli.prior.server.address import is_server, server_address
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Artifact, Workspace, read_json
from cepcli.workspace.variables import server_key

if TYPE_CHECKING:
    from cepcli.prior.local.language_model import LanguageModel

UNIFORM = "uniform"
#: Of an untuned model. Long actions are not at a disadvantage under the mean.
DEFAULT_NORMALISATION: Normalisation = "mean"


@dataclass(frozen=True, slots=True)
class PriorSource:
    """What a prior's name stands for: a language model, or None for uniform.

    `artifact` is the tuned prior whose adapter is merged into it, if any; `card` is what was stored
    with that adapter ("templates", "temperature", …).
    """

    model: str | None
    artifact: Artifact | None
    card: dict[str, Any]


def find_prior(name: str, workspace: Workspace) -> PriorSource:
    """What `name` stands for; loads no model and asks no server.

    Raises:
        PriorError: if it is no known name, no directory, no address, and cannot be a hub id.
    """
    if name == UNIFORM:
        return PriorSource(None, None, {})
    if name in EMBEDDED_MODELS:
        return PriorSource(name, None, {})
    if is_server(name):
        server_address(name)
        return PriorSource(name, None, {})
    tuned = workspace.names("prior")
    if name in tuned:
        artifact = workspace.open("prior", name)
        card = read_json(artifact.path / "prior.json")
        return PriorSource(card["model"], artifact, card)
    if is_gguf(name):
        gguf_file(name)
    if is_gguf(name) or "/" in name or (name and Path(name).is_dir()):
        return PriorSource(name, None, {})
    raise PriorError(
        f"There is no prior `{name}`.",
        suggest(name, [UNIFORM, *EMBEDDED_MODELS, *tuned])
        + " A directory, a GGUF file, a hub id (owner/model) or server:URL works too.",
    )


def check_free(name: str) -> None:
    """Refuse to call a tuned prior what means something else, as `--prior` would never find it."""
    if name == UNIFORM or name in EMBEDDED_MODELS:
        raise PriorError(
            f"A tuned prior cannot be called `{name}`: that name means another prior.",
            "Choose another --name.",
        )


def templates_in(card: Mapping[str, Any]) -> dict[str, str]:
    """The prompt template of each family that a prior was tuned for, from its card."""
    if "template" in card:  # of one family only, as they once were
        return {card.get("family", ""): card["template"]}
    return card.get("templates", {})


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
    thinks: bool = False,
) -> Prior:
    """The prior `name` for environments of `family`; its answers are journaled if a path is given.

    With `thinks` it writes a thought before it scores, unless it is uniform.

    Raises:
        PriorError: if the prior does not exist, cannot be loaded, was tuned for other prompts, or
            is served where nothing answers or nothing can be scored.
        CacheError: if the journal cannot be used, or has answers of other weights.
    """
    source = find_prior(name, workspace)
    if source.model is None:
        return UniformPrior()
    from cepcli.prior.llm import LLMPrior
    from cepcli.prior.prompts import PromptTemplate

    template = PromptTemplate(family, config.template)
    _check_template(name, source, family, template.version, config.template)
    if is_server(source.model):
        scorer = _served(source.model, template.version, config, journal_path)
    else:
        scorer = _local(name, source, template.version, config, device, journal_path)
    return LLMPrior(
        scorer,
        template,
        config.normalisation or source.card.get("normalisation") or DEFAULT_NORMALISATION,
        _shape(config, source),
        config.text_tokens or source.card.get("text_tokens") or TEXT_TOKENS,
        config.thought_tokens if thinks else None,
    )


def _local(
    name: str,
    source: PriorSource,
    template: str,
    config: PriorConfig,
    device: str,
    journal_path: Path | None,
) -> Scorer:
    from cepcli.prior.journal import Journal, JournaledScorer
    from cepcli.prior.local.hf import HFScorer
    from cepcli.prior.local.language_model import load_language_model

    assert source.model is not None
    adapter = source.artifact.path if source.artifact else None
    model = load_language_model(source.model, dtype=config.dtype, device=device, adapter=adapter)
    if adapter:
        _check_base(name, source, model)
    scorer = HFScorer(model, template=template, row_tokens=config.row_tokens)
    return scorer if journal_path is None else JournaledScorer(scorer, Journal(journal_path))


def _served(name: str, template: str, config: PriorConfig, journal_path: Path | None) -> Scorer:
    from cepcli.prior.journal import Journal, JournaledScorer
    from cepcli.prior.server.scorer import ServerScorer

    key = server_key()
    scorer = ServerScorer(server_address(name), key=key, template=template, config=config.server)
    if journal_path is None:
        return scorer
    journal = Journal(journal_path)
    scorer.check_unchanged(journal)
    return JournaledScorer(scorer, journal)


def _shape(config: PriorConfig, source: PriorSource) -> PriorShape:
    """The configured temperature, else the one fitted with the same normalisation, else 1."""
    temperature = config.temperature
    if temperature is None:
        same = config.normalisation in (None, source.card.get("normalisation"))
        temperature = source.card.get("temperature", 1.0) if same else 1.0
    return PriorShape(temperature=float(temperature), smoothing=config.smoothing)


def _check_base(name: str, source: PriorSource, model: "LanguageModel") -> None:
    """Refuse an adapter whose base model has other weights or token ids than it was tuned on."""
    from cepcli.prior.local.adapter import vocabulary_sha256

    again = (
        f"Give the former model, or tune it anew: cep prior finetune --env ID --name {name} "
        f"--set model={source.model} --overwrite"
    )
    vocabulary = source.card.get("vocabulary")
    if vocabulary and vocabulary != vocabulary_sha256(model.tokenizer):
        raise PriorError(
            f"The prior `{name}` was tuned on another vocabulary than `{source.model}` has now: "
            "token ids stand for other words.",
            again,
        )
    tuned_on = source.card.get("revision")
    if source.model in EMBEDDED_MODELS or not tuned_on or tuned_on == model.revision:
        return  # the weights of embedded models are pinned; their file may be written otherwise
    raise PriorError(
        f"The prior `{name}` was tuned on other weights of `{source.model}` (revision "
        f"{tuned_on[:12]}) than are there now ({model.revision[:12]}).",
        again,
    )


def _check_template(
    name: str, source: PriorSource, family: str, version: str, chosen: str | None
) -> None:
    tuned_with = list(templates_in(source.card).values())
    if not tuned_with or version in tuned_with:
        return
    known = f"The prior `{name}` was tuned with prompt template {', '.join(tuned_with)}"
    if chosen is not None:
        raise PriorError(
            f"{known}, not with `{chosen}` ({version}).",
            "Leave llm.template out, or use an untuned prior: embedded, a directory or a hub id.",
        )
    raise PriorError(
        f"{known}, but {family} environments use {version}.",
        "Tune one for this environment: cep prior finetune --env ID",
    )
