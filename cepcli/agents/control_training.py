"""One control step of training: choose a symbol where one is due, act, step, store."""

from cepcli.agents.control_policy import ControlPolicy
from cepcli.agents.parts import Parts
from cepcli.agents.policy import Decision
from cepcli.agents.progress import Progress
from cepcli.cache.trace import TraceWriter
from cepcli.errors import EnvError
from cepcli.rl.control_episodes import ControlTracker
from cepcli.rl.control_replay import ControlTransition
from cepcli.rl.hybrid_sac import HybridSAC


def control_step(
    parts: Parts, progress: Progress, tau: float, trace: TraceWriter | None
) -> Decision | None:
    """One control, the environment's answer, and what the learner keeps.

    Returns:
        The choice of a symbol, if one was due.

    Raises:
        EnvError: if the simulator's answer is not finite; nothing of this step is then kept.
    """
    tracker, learner, policy = parts.tracker, parts.learner, parts.policy
    assert isinstance(tracker, ControlTracker)
    assert isinstance(learner, HybridSAC)
    assert isinstance(policy, ControlPolicy)
    [chosen] = policy.choose([tracker], tau, [parts.acting])
    if chosen is not None:
        state, decision = chosen
        progress.decisions += 1
        if trace:
            trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
        learner.arrive(decision.answer.log_prior)
    assert tracker.symbol is not None

    before, nominals = tracker.observation, policy.nominals(tracker)
    control = policy.control(tracker, parts.acting)
    try:
        reward, terminated, truncated = tracker.step(control)
    except EnvError as error:
        raise EnvError(
            f"Training stopped at step {progress.step + 1}: {error.message}",
            "The checkpoint holds the state before that step; `cep runs resume` goes on from it.",
        ) from error
    progress.record_control(before, control)

    ended = terminated or truncated
    boundary = not ended and tracker.held >= parts.config.sac.symbol_steps
    learner.step(
        ControlTransition(
            before,
            tracker.symbol,
            control,
            reward,
            tracker.observation,
            terminated,
            nominal=None if nominals is None else nominals[tracker.symbol],
            next_nominals=policy.nominals(tracker),
        ),
        boundary=boundary,
    )
    if boundary:
        tracker.release()
    if ended:
        progress.record_episode(tracker.success, tracker.episode_return)
        if parts.control is not None:
            parts.control.tell("episode_return", tracker.episode_return)
        tracker.next_episode()
    return None if chosen is None else chosen[1]
