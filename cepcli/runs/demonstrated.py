"""Demonstrations as the first experience of a learner: its replay begins with them.

What was played is stored, which now and then is not what the expert would have done, with the
prior of every state: that is asked for once, through the run's cache, and counted apart from the
run's own decisions. Then the learner learns as often as there were decisions.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.agents.posterior_q import Policy, QLearner
from cepcli.cache.open import OpenCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.datasets.demonstrations import demos_decisions, open_demos
from cepcli.datasets.text_replay import StateRows
from cepcli.errors import ArtifactError, Interrupted
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.prior.tuning.decisions import ExpertDecision, episodes, read_decisions
from cepcli.prior.tuning.evaluate import ask
from cepcli.workspace.artifacts import Input, Workspace, sha256


class Demonstrated(NamedTuple):
    """Episodes that were demonstrated, and what they are from."""

    episodes: list[list[ExpertDecision]]
    source: Input


def demonstrated(name: str, workspace: Workspace, env_id: str) -> Demonstrated:
    """The demonstrations `name`, or those in a file `….jsonl`.

    Raises:
        ArtifactError: if there are none of this environment, or they do not say what was rewarded,
            or their decisions are not in the order in which they were taken.
    """
    again = f"cep prior demos --env {env_id}"
    if name.endswith(".jsonl"):
        decisions = read_decisions(Path(name))
        source = Input("demos", name, sha256(Path(name)))
        hint = f"Give each line its `reward`, or record some: {again}"
    else:
        artifact = open_demos(workspace, name, env_id)
        decisions, source = demos_decisions(artifact, "train"), artifact.reference
        hint = f"Record them again: {again} --name {name} --overwrite"
    if not decisions:
        raise ArtifactError(f"There is no decision in the demonstrations `{name}`.", hint)
    if any(decision.reward is None for decision in decisions):
        raise ArtifactError(
            f"The demonstrations `{name}` do not say what each action was rewarded with.", hint
        )
    found = episodes(decisions)
    for number, episode in found.items():
        _check_order(name, number, [decision.step for decision in episode])
    return Demonstrated(list(found.values()), source)


def _check_order(name: str, number: int, steps: Sequence[int]) -> None:
    """Refuse an episode in disorder: rewards would be credited to what did not bring them."""
    if not any(steps):  # where none is told, the order of the lines is that of the decisions
        return
    for before, after in pairwise(steps):
        if after <= before:
            raise ArtifactError(
                f"In the demonstrations `{name}` step {after} of episode {number} follows step "
                f"{before}.",
                "Number every episode differently and write its decisions in their order.",
            )


def begin_with(
    demos: Demonstrated,
    learner: QLearner,
    policy: Policy,
    prior: OpenCache | Prior,
    temperature: float,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Fill the learner's replay and learn from it; says how much there was and what it cost.

    Raises:
        Interrupted: when `stop_requested()`, between two episodes.
    """
    telemetry = CacheTelemetry(0.0)
    asked = prior.prior(telemetry) if isinstance(prior, OpenCache) else prior
    decisions = 0
    for episode in demos.episodes:
        if stop_requested():
            raise Interrupted
        _remember(learner, policy, episode, ask(asked, episode))
        decisions += len(episode)
    for _ in range(decisions):
        learner.learn(temperature)
    if isinstance(prior, OpenCache):
        prior.controller.recount(prior.cache, prior.telemetry)
    cost = telemetry.summary()
    return {
        "name": demos.source.name,
        "sha256": demos.source.sha256,
        "decisions": decisions,
        "episodes": len(demos.episodes),
        "queries": cost["queries"]["total"],
        "llm_tokens": cost["llm_tokens"],
        "llm_seconds_recorded": cost["llm_seconds_recorded"],
    }


def _remember(
    learner: QLearner,
    policy: Policy,
    episode: Sequence[ExpertDecision],
    answers: Sequence[PriorAnswer],
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
