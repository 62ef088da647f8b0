"""What a tuning learns from, stops by, and reports on: decisions under their family's prompts.

In continuous control no expert plays, so shots are small groups of annotated states. A text may be
annotated more than once, and under several goals. All its states are on one side of the split, or
what was learned by heart would count as held out; and the text alone decides which side that is, or
annotations that are added later would carry others across.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cepcli.errors import ArtifactError, PriorError
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.prior.prompts import PromptTemplate
from cepcli.prior.tuning.decisions import ExpertDecision, read_decisions
from cepcli.prior.tuning.evaluate import ask
from cepcli.types import TextState
from cepcli.workspace.artifacts import Input, sha256

#: One in so many instances of a file of decisions is held out.
_HELD_OUT_EVERY = 4
#: Annotated states that make a shot.
STATES_PER_SHOT = 5
#: Shares of the distinct texts, about.
_VALIDATION, _TEST = 0.15, 0.15
#: Chosen, before anything was tuned, so that the families that ship have sides of like size.
_SALT = "23"


class Lesson(NamedTuple):
    """A decision, and the template that makes a prompt of its state."""

    template: PromptTemplate
    decision: ExpertDecision


@dataclass(frozen=True, slots=True)
class TuningData:
    """What one environment gives to a tuning.

    Attributes:
        family: of the environment; names the prompt template.
        train: decisions of all demonstrated training episodes.
        validation: held-out decisions that stop the tuning and fit a temperature.
        test: other held-out decisions, to report on.
        source: the demonstrations, annotations or file that they are from.
    """

    env_id: str
    family: str
    train: Sequence[ExpertDecision]
    validation: Sequence[ExpertDecision]
    test: Sequence[ExpertDecision]
    source: Input

    def lessons(self, decisions: Sequence[ExpertDecision]) -> list[Lesson]:
        """Some of the decisions as lessons."""
        template = PromptTemplate(self.family)
        return [Lesson(template, decision) for decision in decisions]


def ask_lessons(
    prior_of: Callable[[PromptTemplate], Prior], lessons: Sequence[Lesson]
) -> list[PriorAnswer]:
    """The prior of every lesson's state, each template's from the prior that is made for it."""
    found: dict[int, PriorAnswer] = {}
    for version in dict.fromkeys(lesson.template.version for lesson in lessons):
        chosen = [i for i, lesson in enumerate(lessons) if lesson.template.version == version]
        prior = prior_of(lessons[chosen[0]].template)
        answers = ask(prior, [lessons[i].decision for i in chosen])
        found.update(zip(chosen, answers, strict=True))
    return [found[i] for i in range(len(lessons))]


def split_heldout(
    decisions: Sequence[ExpertDecision],
) -> tuple[list[ExpertDecision], list[ExpertDecision]]:
    """Held-out decisions for choosing (early stop, temperature) and for reporting.

    Every other instance, in order of appearance, is for choosing. All episodes of an instance are
    on one side: an environment with few instances plays each several times.

    Raises:
        ArtifactError: if there are fewer than two instances.
    """
    instances = list(dict.fromkeys(decision.instance for decision in decisions))
    if len(instances) < 2:
        raise ArtifactError(
            f"The held-out demonstrations are of {len(instances)} instance of the environment; "
            "choosing and reporting need one each.",
            "Record more: cep prior demos --env ID --heldout-episodes 40 --name NAME; "
            "then pass --demos NAME",
        )
    return _apart(decisions, set(instances[::2]))


def lessons_in_file(path: Path, env_id: str, family: str) -> TuningData:
    """Demonstrations in a file of JSON lines; every fourth of their instances is held out.

    Raises:
        ArtifactError: if a line is not a decision, or there are fewer than eight instances.
    """
    decisions = read_decisions(path)
    instances = list(dict.fromkeys(decision.instance for decision in decisions))
    if len(instances) < 2 * _HELD_OUT_EVERY:
        raise ArtifactError(
            f"`{path}` has decisions of {len(instances)} instances, expected at least "
            f"{2 * _HELD_OUT_EVERY}: every fourth is held out, to stop the tuning and to report.",
            "Add episodes of other instances of the environment.",
        )
    heldout, train = _apart(decisions, set(instances[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]))
    source = Input("demos", str(path), sha256(path))
    return TuningData(env_id, family, train, *split_heldout(heldout), source)


def _apart(
    decisions: Sequence[ExpertDecision], instances: set[int]
) -> tuple[list[ExpertDecision], list[ExpertDecision]]:
    """The decisions of some instances, and the others."""
    inside = [d for d in decisions if d.instance in instances]
    return inside, [d for d in decisions if d.instance not in instances]


class LabelledSplit(NamedTuple):
    """Annotated states on three sides; an "episode" is a shot, an "instance" a distinct text."""

    train: list[ExpertDecision]
    validation: list[ExpertDecision]
    test: list[ExpertDecision]


def split_labelled(labelled: Sequence[tuple[TextState, str]], env_id: str) -> LabelledSplit:
    """Annotated states, each with its action, to tune on, to stop by, and to report on.

    Raises:
        PriorError: if one of the sides is empty.
    """
    ranked = sorted(labelled, key=lambda pair: _place(pair[0].text))
    places = [_place(state.text) for state, _ in ranked]
    first = sum(place < _VALIDATION for place in places)
    second = sum(place < _VALIDATION + _TEST for place in places)
    sides = ranked[second:], ranked[:first], ranked[first:second]
    if not all(sides):
        raise PriorError(
            f"{len(labelled)} annotated states of {env_id} are too few to tune on, to stop by and "
            "to report on.",
            f"Annotate more: cep annotate auto --env {env_id}",
        )
    return LabelledSplit(*map(_grouped, sides))


def _place(text: str) -> float:
    """Where a text stands in [0, 1), whatever other texts there are."""
    return int.from_bytes(hashlib.sha256(f"{_SALT}{text}".encode()).digest()[:8], "big") / 2**64


def _grouped(pairs: Sequence[tuple[TextState, str]]) -> list[ExpertDecision]:
    """Each state as a decision of the shot that it is in."""
    texts = {text: n for n, text in enumerate(dict.fromkeys(state.text for state, _ in pairs))}
    return [
        ExpertDecision(
            episode=number // STATES_PER_SHOT,
            instance=texts[state.text],
            step=number % STATES_PER_SHOT,
            state=state,
            action=action,
        )
        for number, (state, action) in enumerate(pairs)
    ]


def check_shots(train: Sequence[ExpertDecision], shots: int, env_id: str) -> None:
    """Refuse more shots than there are annotations for.

    Raises:
        PriorError: saying how many there are.
    """
    there = train[-1].episode + 1 if train else 0
    if there < shots:
        raise PriorError(
            f"{shots} shots of {env_id} need {shots} groups of {STATES_PER_SHOT} annotated states "
            f"to tune on; there are {len(train)} states, which makes {there} shots.",
            f"Annotate more (cep annotate auto --env {env_id}), or pass --shots {there}.",
        )
