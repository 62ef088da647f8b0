"""WebShop: find a product that fits an instruction and a price limit, choose options, buy it.

Pages, goals, search and reward are those of Yao et al., "WebShop: Towards Scalable Real-World Web
Interaction with Grounded Language Agents" (arXiv 2207.01206), in text mode. Admissible are the
clicks that a page shows and, on the page with the search bar, the searches that the instruction's
own words suggest (`webshop_goals.searches`). Ours: pages leave out the instruction, which is the
goal, and an item's page tells which options have been clicked. The expert knows the product that
the goal was made of.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cepcli.envs.admissible import (
    MAX_TEXT,
    AdmissibleActions,
    requested_instance,
    require_admissible,
)
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.webshop.expert import Expert
from cepcli.envs.webshop.goals import Goal, searches, split_goals
from cepcli.envs.webshop.options import WebShopOptions
from cepcli.envs.webshop.pages import SEPARATOR, Place
from cepcli.envs.webshop.reward import Reward
from cepcli.envs.webshop.world import World, characters, open_world
from cepcli.errors import EnvError


class WebShopEnv(SymbolicEnv):
    """A shop in text. An instance is the number of a goal."""

    family = "webshop"

    def __init__(self, env_id: str, split: Split, options: WebShopOptions, world: World) -> None:
        self.env_id = env_id
        self.max_episode_steps = options.max_episode_steps
        self.world = world
        self.observation_space = gym.spaces.Text(
            max_length=MAX_TEXT, min_length=1, charset=characters(world.products)
        )
        self.action_space = self._space = AdmissibleActions()
        train, heldout = split_goals(world.goals, options.heldout_share)
        self._instances = train if split == "train" else heldout
        weights = np.cumsum([world.goals[i].weight for i in self._instances])
        self._odds = weights / weights[-1]
        self._instance, self._taken = 0, 0
        self._place = Place("index")
        self._searches: tuple[str, ...] = ()
        self._actions: tuple[str, ...] = ()
        self._expert: Expert | None = None
        self._running = False

    @property
    def goal(self) -> Goal:
        """What the running episode asks for."""
        return self.world.goals[self._instance]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode on the page with the search bar."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            drawn = int(np.searchsorted(self._odds, self.np_random.random(), side="right"))
            instance = self._instances[drawn]
        if instance >= len(self.world.goals):
            raise EnvError(
                f"`instance` is {instance}, and `{self.env_id}` has {len(self.world.goals)} goals.",
                f"Ask for one from 0 to {len(self.world.goals) - 1}.",
            )
        self._instance, self._taken, self._expert, self._running = instance, 0, None, True
        self._place = Place("index")
        self._searches = tuple(f"search[{query}]" for query in searches(self.goal.instruction))
        return self._observe(None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Search or click; buying ends the episode with WebShop's reward, all else has none."""
        require_admissible(action, self._actions if self._running else (), self.env_id)
        self._place = self.world.shop.do(self._place, action)
        self._taken += 1
        terminated = self._place.page == "done"
        bought = None
        if terminated:
            chosen = [value for _, value in self._place.chosen]
            bought = self.world.reward(self.goal, self._place.item, chosen)
        truncated = not terminated and self._taken >= self.max_episode_steps
        self._running = not (terminated or truncated)
        text, info = self._observe(bought)
        return text, bought.total if bought else 0.0, terminated, truncated, info

    def expert_action(self) -> str:
        """The next action towards buying the goal's own product, wherever the agent went.

        If no search finds that product, towards the one of the best reward that is found.
        """
        if self._expert is None:
            self._expert = Expert(self.world, self.goal, searches(self.goal.instruction))
        return self._expert.advise(self._place)

    def _observe(self, bought: Reward | None) -> tuple[str, dict[str, Any]]:
        text = self.world.shop.text(self._place)
        if bought is not None:
            score = f"Your score (min 0.0, max 1.0){SEPARATOR}{bought.total:g}"
            text = f"{text}{SEPARATOR}{score}"
        elif self._place.page == "index":
            self._actions = self._searches
        else:
            links = self.world.shop.links(self._place)
            self._actions = tuple(f"click[{link}]" for link in links)
        self._space.actions = self._actions
        return text, {
            "text": text,
            "goal": self.goal.instruction,
            "actions": self._actions,
            "instance": self._instance,
            "success": bought is not None and bought.total == 1,
        }


def make_webshop(
    env_id: str,
    split: Split,
    workspace: Path,
    options: WebShopOptions,
    progress: Callable[[str], None] | None,
) -> WebShopEnv:
    """The factory of the family."""
    return WebShopEnv(env_id, split, options, open_world(options, workspace, progress))
