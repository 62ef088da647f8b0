"""The oracle of WebShop: it knows which product a goal was made of, and how to get there."""

from collections.abc import Mapping, Sequence

from cepcli.envs.webshop.goals import Goal
from cepcli.envs.webshop.pages import BACK, BUY, NEXT, PREVIOUS, Place
from cepcli.envs.webshop.reward import normal_color, similar
from cepcli.envs.webshop.world import World


class Expert:
    """Leads from any place to a purchase for one goal.

    Of the searches it takes the first that has the product on its first page of results, or else
    the one that ranks it best.
    """

    def __init__(self, world: World, goal: Goal, queries: Sequence[str]) -> None:
        self._shop, self._queries = world.shop, queries
        self._target = self._choose_target(world, goal)
        product = world.products[self._target]
        self._picks = picks(product.options, goal.options)
        self._query = min(self._queries, key=self._rank)

    def advise(self, place: Place) -> str:
        """The next action; from "done" there is none, and the last one is repeated."""
        if place.page == "index":
            return f"search[{self._query}]"
        if place.page == "results":
            return self._among_results(place)
        if place.page == "sub":
            return _click(PREVIOUS)
        if place.item != self._target:
            found = self._target in self._shop.results(place.query)
            return _click(PREVIOUS if found else BACK)
        for name, value in self._picks.items():
            if (name, value) not in place.chosen:
                return _click(value)
        return _click(BUY)

    def _among_results(self, place: Place) -> str:
        if self._target in self._shop.shown(place):
            return _click(self._shop.link(place, self._target))
        results = self._shop.results(place.query)
        if self._target not in results:
            return _click(BACK)
        before = self._target not in results[(place.number - 1) * self._shop.page_size :]
        return _click(PREVIOUS if before else NEXT)

    def _rank(self, query: str) -> int:
        """On which page the target is; the same for all queries that do not find it."""
        results = self._shop.results(query)
        if self._target not in results:
            return len(results) + 10**9
        return results.index(self._target) // self._shop.page_size

    def _choose_target(self, world: World, goal: Goal) -> int:
        found = dict.fromkeys(item for query in self._queries for item in self._shop.results(query))
        if goal.product in found or not found:
            return goal.product

        def worth(item: int) -> float:
            chosen = picks(world.products[item].options, goal.options)
            return world.reward(goal, item, chosen.values()).total

        return max(found, key=worth)


def picks(options: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> dict[str, str]:
    """Which values to click, by option: for each wanted one the same, else the first like it.

    Of values that two options share, a click takes the later option's.
    """
    clicked = {value: name for name, values in options.items() for value in values}
    chosen: dict[str, str] = {}
    for each in wanted:
        like = [v for v in clicked if v == each] or [
            v for v in clicked if similar(normal_color(v), normal_color(each))
        ]
        free = [value for value in like if clicked[value] not in chosen]
        if free and not any(value in chosen.values() for value in like):
            chosen[clicked[free[0]]] = free[0]
    return chosen


def _click(what: str) -> str:
    return f"click[{what.lower()}]"
