"""A tiny environment that keeps the contract, and can be told to break one rule."""

import gymnasium as gym

from cepcli.envs.base import AdmissibleActions, SymbolicEnv, require_admissible, text_space

ACTIONS = ("forward", "wait")


class ToyEnv(SymbolicEnv):
    """Walk `length` steps. `broken` names the rule of the contract that is broken."""

    family = "toy"
    env_id = "toy/walk"

    def __init__(self, *, split="train", length=3, broken=""):
        self.length, self.broken = length, broken
        self.max_episode_steps = 2 * length
        self.first = 0 if split == "train" or broken == "splits overlap" else 1000
        self.observation_space = gym.spaces.Discrete(2) if self.is_("observation") else text_space()
        self.action_space = AdmissibleActions(("wait",) if self.is_("action space") else ACTIONS)
        self.instance = self.place = self.taken = self.resets = self.asked = 0
        if self.is_("no family"):
            self.family = ""

    def is_(self, rule):
        return self.broken == rule

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        asked = (options or {}).get("instance")
        drawn = asked is None or self.is_("replay draws")
        number = self.first + int(self.np_random.integers(1000 if drawn else 1)) if drawn else 0
        self.instance = number if asked is None else asked
        self.place = self.taken = 0
        self.resets += 1
        if asked is not None and self.is_("replay differs"):
            self.place = 1
        return self.state()

    def step(self, action):
        if not self.is_("takes anything"):
            require_admissible(action, ACTIONS, self.env_id)
        self.taken += 1
        self.place += action == "forward"
        terminated = self.place >= self.length
        late = 2 if self.is_("late truncation") else 0
        early = 1 if self.is_("early truncation") else 0
        truncated = not terminated and self.taken >= self.max_episode_steps + late - early
        reward = float("nan") if self.is_("reward") else float(terminated)
        if self.is_("flag"):
            terminated = int(terminated)
        text, info = self.state()
        return text, reward, terminated, truncated, info

    def expert_action(self):
        self.asked += 1
        if self.is_("expert moves"):
            self.place = max(self.place - 1, 0)
        return "fly" if self.is_("expert flies") else "forward"

    def state(self):
        noise = f" in reset {self.resets}" if self.is_("seed ignored") else ""
        text = f"You are at {self.place} of {self.instance}{noise}."
        goal = f"walk to {self.place if self.is_('goal changes') else self.length}"
        info = {
            "text": "" if self.is_("empty text") else text,
            "goal": goal,
            "actions": ACTIONS,
            "instance": self.instance,
            "success": self.place >= self.length,
        }
        info.update(self.damage())
        if self.is_("key missing"):
            del info["success"]
        return text, info

    def damage(self):
        return {
            "actions a list": {"actions": list(ACTIONS)},
            "actions empty": {"actions": ()},
            "actions twice": {"actions": ("wait", "wait")},
            "action blank": {"actions": ("wait", " ")},
            "instance type": {"instance": "first"},
            "instance changes": {"instance": self.instance + self.taken},
            "success type": {"success": int(self.place >= self.length)},
        }.get(self.broken, {})
