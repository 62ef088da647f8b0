"""Demonstrations as the first experience of a learner: its replay begins with them.

What was played is stored, which now and then is not what the expert would have done, with the
prior of every state: that is asked for once, through the run's cache, and counted apart from the
run's own decisions. Then the learner takes as many gradient steps as there were decisions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cepcli.agents.parts import Parts
from cepcli.agents.policy import Policy
from cepcli.agents.q_learner import QLearner
from cepcli.artifacts import Artifact, Input, Workspace, sha256
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.errors import ArtifactError
from cepcli.prior.base import PriorAnswer
from cepcli.prior.decisions import Decision, episodes, read_decisions
from cepcli.prior.evaluate import ask
from cepcli.rl.demonstrations import demos_decisions, open_demos
from cepcli.rl.replay import StateRows


def demonstrated(
    name: str, workspace: Workspace, env_id: str
) -> tuple[list[list[Decision]], Input]:
    """Episodes of the demonstrations `name`, or of a file `….jsonl`, and what they are from.

    Raises:
        ArtifactError: if there are none of this environment, or they do not say what was rewarded.
    """
    if name.endswith(".jsonl"):
        decisions = read_decisions(Path(name))
        source = Input("demos", name, sha256(Path(name)))
    else:
        artifact: Artifact = open_demos(workspace, name, env_id)
        decisions, source = demos_decisions(artifact, "train"), artifact.reference
    if not decisions or any(decision.reward is None for decision in decisions):
        raise ArtifactError(
            f"The demonstrations `{name}` do not say what each action was rewarded with.",
            f"Record them again: cep prior demos --env {env_id} --name {name} --overwrite",
        )
    return list(episodes(decisions).values()), source


def begin_with(
    parts: Parts, demos: Sequence[Sequence[Decision]], temperature: float
) -> dict[str, Any]:
    """Fill the learner's replay and learn from it; says how much there was and what it cost."""
    learner, policy = parts.learner, parts.policy
    assert isinstance(learner, QLearner)
    assert isinstance(policy, Policy)
    telemetry = CacheTelemetry(parts.config.cache.hit_rate_decay)
    prior = parts.bare_prior
    if parts.cache is not None:
        prior = CachedPrior(prior, parts.cache, parts.key, parts.auditing, telemetry, parts.control)
    decisions = 0
    for episode in demos:
        _remember(learner, policy, episode, ask(prior, episode))
        decisions += len(episode)
    for _ in range(decisions):
        learner.learn(temperature)
    queries = telemetry.summary()["queries"]["total"]
    return {"decisions": decisions, "episodes": len(demos), "queries": queries}


def _remember(
    learner: QLearner, policy: Policy, episode: Sequence[Decision], answers: Sequence[PriorAnswer]
) -> None:
    """Store the transitions of an episode, which ends with its last decision."""
    rows: list[StateRows] = []
    for decision, answer in zip(episode, answers, strict=True):
        found = policy.rows(decision.state, answer)
        assert found is not None, "a learner has a table of texts"
        rows.append(found)
    last = len(episode) - 1
    for number, (decision, row) in enumerate(zip(episode, rows, strict=True)):
        learner.arrive(row)
        action = decision.state.actions.index(decision.played or decision.action)
        reward = float(decision.reward or 0.0)
        learner.step(row, action, reward, terminated=number == last, truncated=False)
