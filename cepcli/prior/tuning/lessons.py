"""What a tuning learns from, stops by, and reports on: decisions under their family's prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cepcli.errors import ArtifactError
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.prior.prompts import PromptTemplate
from cepcli.prior.tuning.decisions import Decision, read_decisions
from cepcli.prior.tuning.evaluate import ask
from cepcli.workspace.artifacts import Input, sha256

#: Of a file of decisions, every so manieth instance is held out.
_HELD_OUT_EVERY = 4


class Lesson(NamedTuple):
    """A decision, and the template that makes a prompt of its state."""

    template: PromptTemplate
    decision: Decision


@dataclass(frozen=True, slots=True)
class TuningData:
    """What one environment gives to a tuning.

    Attributes:
        env_id: the environment.
        family: its family; names the prompt template.
        train: decisions of all demonstrated training episodes.
        validation: held-out decisions that stop the tuning and fit a temperature.
        test: other held-out decisions, to report on.
        source: the demonstrations, annotations or file that they are from.
    """

    env_id: str
    family: str
    train: Sequence[Decision]
    validation: Sequence[Decision]
    test: Sequence[Decision]
    source: Input

    def lessons(self, decisions: Sequence[Decision]) -> list[Lesson]:
        """Some of the decisions as lessons."""
        template = PromptTemplate(self.family)
        return [Lesson(template, decision) for decision in decisions]


def ask_lessons(
    prior_of: Callable[[PromptTemplate], Prior],
    lessons: Sequence[Lesson],
    progress: Callable[[int], None] | None = None,
) -> list[PriorAnswer]:
    """The prior of every lesson's state, each template's from the prior that is made for it."""
    found: dict[int, PriorAnswer] = {}
    for version in dict.fromkeys(lesson.template.version for lesson in lessons):
        chosen = [i for i, lesson in enumerate(lessons) if lesson.template.version == version]
        prior = prior_of(lessons[chosen[0]].template)
        done = len(found)
        answers = ask(
            prior,
            [lessons[i].decision for i in chosen],
            None if progress is None else lambda count, done=done: progress(done + count),
        )
        found.update(zip(chosen, answers, strict=True))
    return [found[i] for i in range(len(lessons))]


def split_heldout(decisions: Sequence[Decision]) -> tuple[list[Decision], list[Decision]]:
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
    choosing = set(instances[::2])
    validation = [d for d in decisions if d.instance in choosing]
    test = [d for d in decisions if d.instance not in choosing]
    return validation, test


def lessons_in_file(path: Path, env_id: str, family: str) -> TuningData:
    """Demonstrations in a file of JSON lines; every fourth of their instances is held out.

    Raises:
        ArtifactError: if a line is not a decision, or there are fewer than eight instances.
    """
    decisions = read_decisions(path)
    instances = list(dict.fromkeys(decision.instance for decision in decisions))
    heldout = set(instances[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY])
    if len(heldout) < 2:
        raise ArtifactError(
            f"`{path}` has decisions of {len(instances)} instances, expected at least "
            f"{2 * _HELD_OUT_EVERY}: every fourth is held out, to stop the tuning and to report.",
            "Add episodes of other instances of the environment.",
        )
    train = [d for d in decisions if d.instance not in heldout]
    validation, test = split_heldout([d for d in decisions if d.instance in heldout])
    return TuningData(
        env_id, family, train, validation, test, Input("demos", str(path), sha256(path))
    )
