"""What annotations hold: coverage of primitives and phrases, agreement of sources, duplicates."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from cepcli.annotate.records import SOURCES, Annotation, believed
from cepcli.envs.catalog import control_spec


def statistics(annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Counts over all lines, and over the one annotation of each state that is believed.

    Returns:
        annotations, states, sources, envs: counts;
        primitives: believed annotations by primitive, unused ones with 0;
        slots: the same by slot and phrase;
        texts: distinct texts; texts_with_several_primitives: how many of them leave it open;
        agreement: of each pair of sources, on the states that both annotated;
        duplicates: lines by which a source annotates a state again.
    """
    best = believed(annotations)
    actions = [name for env in sorted({a.env for a in best}) for name in control_spec(env).actions]
    used = Counter(found.primitive for found in best)
    phrases: dict[str, Counter[str]] = defaultdict(Counter)
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for found in best:
        named[found.env, found.text].add(found.primitive)
        for slot, phrase in found.slots.items():
            phrases[slot][phrase] += 1
    return {
        "annotations": len(annotations),
        "states": len(best),
        "sources": dict(Counter(found.source for found in annotations)),
        "envs": dict(Counter(found.env for found in best)),
        "primitives": {name: used[name] for name in dict.fromkeys(actions)},
        "slots": {slot: dict(counts.most_common()) for slot, counts in phrases.items()},
        "texts": len({found.text for found in best}),
        "texts_with_several_primitives": sum(len(several) > 1 for several in named.values()),
        "agreement": _agreement(annotations),
        "duplicates": len(annotations) - len({(a.state, a.source) for a in annotations}),
    }


def _agreement(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    by_source: dict[str, dict[str, Annotation]] = defaultdict(dict)
    for annotation in annotations:
        by_source[annotation.source][annotation.state] = annotation
    rows = []
    for one, other in combinations([source for source in SOURCES if source in by_source], 2):
        both = sorted(by_source[one].keys() & by_source[other].keys())
        pairs = [(by_source[one][state], by_source[other][state]) for state in both]
        if pairs:
            rows.append({"sources": [one, other], "states": len(pairs), **_shares(pairs)})
    return rows


def _shares(pairs: Sequence[tuple[Annotation, Annotation]]) -> dict[str, Any]:
    def share(same: Iterable[bool]) -> float:
        values = list(same)
        return round(sum(values) / len(values), 4)

    slotted = [(a.slots, b.slots) for a, b in pairs if a.slots and b.slots]
    names = dict.fromkeys(slot for a, b in slotted for slot in (*a, *b))
    return {
        "primitive": share(a.primitive == b.primitive for a, b in pairs),
        "text": share(a.text == b.text for a, b in pairs),
        "slots": {slot: share(a.get(slot) == b.get(slot) for a, b in slotted) for slot in names},
    }
