"""A control step in every environment: choose symbols where they are due, act, step, store."""

from cepcli.agents.control_policy import ControlPolicy
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.agents.policy import Decision
from cepcli.cache.trace import TraceWriter
from cepcli.datasets.control_replay import ControlTransition
from cepcli.envs.control_episodes import Answer, ControlTracker
from cepcli.runs.parts import Parts
from cepcli.runs.progress import Progress, stopped_at


def control_step(
    parts: Parts, progress: Progress, tau: float, trace: TraceWriter | None
) -> list[Decision]:
    """One control in each environment, the answers, and what the learner keeps.

    Symbols that are due in several environments are asked for in one call to the prior.

    Returns:
        The choices of symbols that were due.

    Raises:
        EnvError: if a simulator fails or its answer is not finite: nothing is then kept of this
            step in any environment, nor of an episode that begins so.
        ConfigError: if the learner's numbers are not finite any more.
    """
    learner, policy = parts.learner, parts.policy
    trackers = [tracker for tracker in parts.trackers if isinstance(tracker, ControlTracker)]
    assert isinstance(learner, HybridSAC)
    assert isinstance(policy, ControlPolicy)
    chosen = policy.choose(trackers, tau, [parts.acting] * len(trackers))
    decisions = []
    for number, (tracker, choice) in enumerate(zip(trackers, chosen, strict=True)):
        if choice is None:
            continue
        state, decision = choice
        progress.decisions += 1
        if trace:
            trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
        learner.arrive(decision.answer.log_prior, number)
        decisions.append(decision)
    answers = []
    for number, tracker in enumerate(trackers):
        control = policy.control(tracker, parts.acting)
        with stopped_at(progress.step + number + 1):
            answers.append(tracker.apply(control))
    for number, (tracker, answer) in enumerate(zip(trackers, answers, strict=True)):
        _keep(parts, progress, learner, policy, tracker, answer, number)
    for tracker, answer in zip(trackers, answers, strict=True):
        if answer.terminated or answer.truncated:
            with stopped_at(progress.step):
                tracker.next_episode()
    return decisions


def _keep(
    parts: Parts,
    progress: Progress,
    learner: HybridSAC,
    policy: ControlPolicy,
    tracker: ControlTracker,
    answer: Answer,
    number: int,
) -> None:
    """Record one control in the environment of that number."""
    assert tracker.symbol is not None
    before, nominals = tracker.observation, policy.nominals(tracker)
    progress.record_control(before, answer.control)
    tracker.take(answer)

    ended = answer.terminated or answer.truncated
    boundary = not ended and tracker.held >= parts.config.sac.symbol_steps
    learner.step(
        ControlTransition(
            before,
            tracker.symbol,
            answer.control,
            answer.reward,
            answer.observation,
            answer.terminated,
            nominal=None if nominals is None else nominals[tracker.symbol],
            next_nominals=policy.nominals(tracker),
        ),
        boundary=boundary,
        env=number,
    )
    if boundary:
        tracker.release()
    if ended:
        progress.record_episode(tracker.success, tracker.episode_return)
        if parts.control is not None:
            parts.control.tell("episode_return", tracker.episode_return)
