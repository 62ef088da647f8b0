"""A loop of one's own around a cached prior: BabyAI, played by a rule of thumb.

`score` is where an LLM would be asked; this rule needs none. Run: python examples/own_loop.py
"""

from pathlib import Path

import numpy as np

from cepcli import TextState, cached
from cepcli.cache.config import CacheConfig
from cepcli.envs.catalog import make_env


def score(state: TextState) -> list[float]:
    """A log-score per action: go where the goal's object is, look around while it is unseen."""
    _, _, where = state.text.partition(state.goal.removeprefix("go to the "))
    best = "go forward" if "forward" in where else "turn left" if "left" in where else "turn right"
    return [0.0 if action == best else -3.0 for action in state.actions]


# Keys that mark what the goal names: what was said about one goal serves the others, too.
config = CacheConfig(mode="certified", encoder="hash", focus=True)
prior = cached(score, name="go-to-rule-1", config=config)
env = make_env("babyai/goto-obj", workspace=Path("artifacts"))
random, solved, episodes = np.random.default_rng(0), 0, 300
env.reset(seed=0)
for _ in range(episodes):
    (_, info), over = env.reset(), False
    while not over:
        answer = prior(TextState(info["goal"], info["text"], info["actions"]))
        action = random.choice(info["actions"], p=np.exp(answer.log_prior))
        _, _, terminated, truncated, info = env.step(str(action))
        over = terminated or truncated
    solved += info["success"]

done = prior.telemetry
print(f"{solved} of {episodes} episodes solved; {done.decisions} decisions, {done.queries} queries")
print(f"hit rate {done.hits / done.decisions:.3f}: {done.summary()['hits']}")
print(prior.certificate)
