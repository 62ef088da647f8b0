"""Who plays when a dataset is collected: trained runs, experts, or chance, as a recipe says."""

from typing import Any

import torch
from typing_extensions import override

from cepcli.agents.config import CONTROL, LEARNING
from cepcli.agents.control_policy import ControlPolicy
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.agents.posterior_q import Policy
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.datasets.behaviour import Behaviour, ExpertBehaviour, RandomBehaviour
from cepcli.datasets.collect import DEFAULT_TRANSITIONS, CollectConfig, CollectPlan, Stage
from cepcli.datasets.control_replay import replay_data
from cepcli.datasets.dataset import Notify
from cepcli.envs.catalog import make_control_env, spec
from cepcli.envs.episodes import ControlTracker, Tracker
from cepcli.errors import ArtifactError, DataError
from cepcli.runs.engine import finished_run, summary_of
from cepcli.runs.online import OnlineRun
from cepcli.runs.run import Progress
from cepcli.runs.settings import read_config
from cepcli.workspace.artifacts import Input, Workspace


class TrainedBehaviour(Behaviour):
    """A finished run's agent, asking its prior through the cache as training left it.

    Args:
        parts: of the run.
        progress: of the run, at its end.
        name: of the run.
        greedy: whether it does what it finds best, as an expert; else it acts as it explored.
    """

    def __init__(self, parts: OnlineRun, progress: Progress, name: str, *, greedy: bool) -> None:
        self._config = parts.config
        self._policy = parts.eval_policy(CacheTelemetry(parts.config.cache.hit_rate_decay))
        self._tau = parts.temperature(progress)
        self._greedy = greedy
        self.about = f"the run {name} ({parts.config.agent}, {progress.step} steps)"

    @override
    def begin(self, seed: int) -> None:
        self._noise = torch.Generator().manual_seed(seed)

    @override
    def act(self, tracker: Tracker) -> Any:
        policy = self._policy
        if isinstance(policy, ControlPolicy):
            assert isinstance(tracker, ControlTracker)
            return self._control(policy, tracker)
        assert isinstance(policy, Policy)
        assert not isinstance(tracker, ControlTracker)
        state = tracker.state
        decision = policy.decide(state, self._tau, self._noise, greedy=self._greedy)
        return state.actions[decision.action]

    def _control(self, policy: ControlPolicy, tracker: ControlTracker) -> Any:
        if tracker.held >= self._config.sac.symbol_steps:
            tracker.release()
        policy.choose([tracker], self._tau, [self._noise], greedy=self._greedy)
        return policy.control(tracker, None if self._greedy else self._noise)


def plan(config: CollectConfig, workspace: Workspace, notify: Notify) -> CollectPlan:
    """How to collect what `config` asks for.

    Raises:
        ArtifactError: if the recipe needs a run that is not named, not there, or not finished.
        DataError: if a run is of another environment, or has no replay to take.
        EnvError: if there is no such environment, or it has no expert of its own.
    """
    spec(config.env)  # a mistyped environment is said first
    if config.recipe == "medium-replay":
        return _replay_plan(config, workspace, notify)
    steps = config.transitions or DEFAULT_TRANSITIONS
    if config.recipe == "medium-expert":
        players = [
            _trained(config, config.run, workspace, notify, greedy=False),
            _expert(config, config.expert_run, workspace, notify),
        ]
    elif config.recipe == "medium":
        players = [_trained(config, config.run, workspace, notify, greedy=False)]
    elif config.recipe == "expert":
        players = [_expert(config, config.run, workspace, notify)]
    elif config.recipe == "noisy-expert":
        _check_expert(config)
        players = [(ExpertBehaviour(config.noise), [])]
    else:
        players = [(RandomBehaviour(), [])]
    shares = [steps] if len(players) == 1 else [steps // 2, steps - steps // 2]
    stages = [Stage(one, own) for (one, _), own in zip(players, shares, strict=True) if own]
    about = " and ".join(stage.behaviour.about for stage in stages)
    return CollectPlan(
        config, stages, about, inputs=[each for _, inputs in players for each in inputs]
    )


def _expert(
    config: CollectConfig, run: str | None, workspace: Workspace, notify: Notify
) -> tuple[Behaviour, list[Input]]:
    if run is not None:
        return _trained(config, run, workspace, notify, greedy=True)
    _check_expert(config)
    return ExpertBehaviour(0.0), []


def _check_expert(config: CollectConfig) -> None:
    """Refuse an environment of control whose only expert would be a trained agent."""
    if spec(config.env).kind == "text":
        return
    env = make_control_env(config.env, options=config.env_options)
    observation, _ = env.reset(seed=0)
    scripted = env.expert_control(observation) is not None
    env.close()
    if scripted:
        return
    option = "--expert-run" if config.recipe == "medium-expert" else "--recipe expert --run"
    raise DataError(
        f"`{config.env}` has no expert of its own for the recipe {config.recipe}.",
        f"Take a trained run for one: {option} NAME; train it: cep train --env {config.env} "
        "--agent sac",
    )


def _trained(
    config: CollectConfig, run: str | None, workspace: Workspace, notify: Notify, *, greedy: bool
) -> tuple[Behaviour, list[Input]]:
    name, parts, progress = _loaded(config, run, workspace, notify)
    inputs = [workspace.open("run", name).reference]
    return TrainedBehaviour(parts, progress, name, greedy=greedy), inputs


def _replay_plan(config: CollectConfig, workspace: Workspace, notify: Notify) -> CollectPlan:
    name, parts, progress = _loaded(config, config.run, workspace, notify)
    if not isinstance(parts.learner, HybridSAC):
        raise DataError(
            f"The run `{name}` is of {parts.config.agent}, whose replay does not keep what was "
            "seen: medium-replay is of sac and hybrid-sac.",
            f"Let it act instead: --recipe medium --run {name}",
        )
    env = spec(config.env).id
    stored = parts.learner.replay.transitions()
    data = replay_data(env, "", stored, config.transitions)
    evaluated = summary_of(workspace, name)["eval"]["return_mean"]
    held = len(stored.rewards)
    part = f"evenly spaced episodes of the {held} in " if len(data) < held else ""
    about = (
        f"{part}the replay of the run {name} ({parts.config.agent}, {progress.step} steps, which "
        f"reached a return of {evaluated:.0f})"
    )
    return CollectPlan(config, [], about, data, [workspace.open("run", name).reference])


def _loaded(
    config: CollectConfig, run: str | None, workspace: Workspace, notify: Notify
) -> tuple[str, OnlineRun, Progress]:
    """A finished run of the environment: the named one, or the only one."""
    if run is None:
        run = _only_run(config, workspace)
        notify(f"Taking the run {run}")
    parts, progress = finished_run(workspace, run, notify)
    if spec(parts.config.env).id != spec(config.env).id:
        raise DataError(
            f"The run `{run}` is of `{parts.config.env}`, expected `{config.env}`.",
            "See which there are: cep runs list",
        )
    return run, parts, progress


def _only_run(config: CollectConfig, workspace: Workspace) -> str:
    """The one finished run of an agent that learns, of the environment."""
    found = []
    for name in workspace.names("run"):
        path = workspace.open("run", name).path
        if not (path / "config.toml").is_file():
            continue  # a run of `cep bench sb3`
        other = read_config(path)
        learns = other.agent in (*LEARNING, *CONTROL)
        if learns and spec(other.env).id == spec(config.env).id:
            found.append(name)
    if len(found) == 1:
        return found[0]
    agent = " --agent sac" if spec(config.env).kind == "control" else ""
    if not found:
        raise ArtifactError(
            f"The recipe {config.recipe} needs a trained run of `{config.env}`, and there is none "
            f"in `{workspace.root}`.",
            f"Train one: cep train --env {config.env}{agent}",
        )
    raise ArtifactError(
        f"There are {len(found)} trained runs of `{config.env}`: {', '.join(found)}.",
        f"Name one: --run {found[-1]}",
    )
