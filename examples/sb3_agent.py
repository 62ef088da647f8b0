"""A Stable-Baselines3 DQN that chooses π(a|s) ∝ prior(a|s)·exp(Q(s,a)/τ), beside one without.

DQN sees the numbers of a BabyAI view; the prior reads the same view as sentences, through the
cache. `score` is where an LLM would be asked; this one is a weak rule of thumb. The steps are far
too few for DQN alone. Needs: pip install 'cepcli[sb3]'. Run it: python examples/sb3_agent.py
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from minigrid.wrappers import ImgObsWrapper
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.dqn.policies import DQNPolicy

from cepcli import TextState, cached
from cepcli.cache.cached_prior import CachedPrior
from cepcli.envs.babyai import VERBS, describe
from cepcli.posterior import log_posterior, sample_action

TEMPERATURE = 0.1
STEPS = 2000
LEARNING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learning_starts": 100,
    "train_freq": 4,
    "target_update_interval": 200,
    "gamma": 0.9,
    "seed": 0,
}


def make_env() -> gym.Env:
    """A room with one red ball; the observation is the flattened view, one reward at the ball."""
    env = gym.make("BabyAI-GoToRedBallNoDists-v0")
    return Monitor(gym.wrappers.FlattenObservation(ImgObsWrapper(env)))


def text_state(observation: np.ndarray) -> TextState:
    """A view as an LLM would read it."""
    text = describe(observation.reshape(7, 7, 3))
    return TextState("go to the red ball", text, (*VERBS, "done"))


def score(state: TextState) -> list[float]:
    """A log-score per action: go where the ball is, turn while it is unseen; but only a hint."""
    _, _, where = state.text.partition("red ball")
    best = "go forward" if "forward" in where else "turn left" if "left" in where else "turn right"
    return [0.0 if action == best else -1.0 for action in state.actions]


class PosteriorPolicy(DQNPolicy):
    """DQN's policy but for the choice of action, while it learns and afterwards."""

    def __init__(self, *args: Any, prior: CachedPrior, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prior = prior
        self.generator = torch.Generator().manual_seed(0)

    def _predict(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        answers = self.prior.log_probs([text_state(view) for view in obs.numpy()])
        log_prior = torch.from_numpy(np.stack([answer.log_prior for answer in answers]))
        log_policy = log_posterior(log_prior, self.q_net(obs).double(), TEMPERATURE)
        return log_policy.argmax(-1) if deterministic else sample_action(log_policy, self.generator)


def success(model: DQN) -> float:
    """The share of 20 episodes that reach the ball."""
    env = make_env()
    env.reset(seed=1000)
    returns, _ = evaluate_policy(model, env, 20, deterministic=False, return_episode_rewards=True)
    return float(np.mean(np.array(returns) > 0))


plain = DQN("MlpPolicy", make_env(), **LEARNING).learn(STEPS)
print(f"success without prior: {success(plain):.2f}")

prior = cached(score, name="redball-rule-1")
agent = DQN(
    PosteriorPolicy,
    make_env(),
    exploration_initial_eps=0.0,
    exploration_final_eps=0.0,
    policy_kwargs={"prior": prior},
    **LEARNING,
)
print(f"success of the prior alone: {success(agent):.2f}")
agent.learn(STEPS)
print(f"success with prior: {success(agent):.2f}")
telemetry = prior.telemetry
print(f"{telemetry.decisions} decisions, {telemetry.queries} queries, {telemetry.hits} saved")
print(prior.certificate)
