"""A person at work on annotations: which state is next, what is suggested, answers and undo.

The page and the terminal are two faces of it. It holds the truth for every tab: an answer names the
revision of the state that it was given on, and one given on an older revision is not taken.
"""

import hashlib
from collections.abc import Collection, Sequence
from threading import RLock
from typing import Any, NamedTuple

from cepcli.annotate.records import (
    Annotation,
    Defect,
    State,
    annotation_of,
    believed,
    plain_numbers,
    suggestion,
    to_line,
)
from cepcli.annotate.store import AnnotationFile
from cepcli.envs.catalog import control_spec
from cepcli.errors import CepError


class AnswerError(CepError):
    """An answer that cannot be taken: an empty text, an unknown primitive or state."""


class Conflict(Exception):
    """The state is not as it was when it was shown; nothing was written."""


class View(NamedTuple):
    """A state as it stands.

    Attributes:
        shown: a person's answer, else the best that there is, else what the rules suggest.
        revision: changes with every answer of a person, and with every edit by hand.
        answered: whether a person has.
    """

    state: State
    shown: Annotation
    revision: str
    answered: bool


class Session:
    """Answers to a list of states, each on disk before it is acknowledged.

    States come in their order, annotated states that are not among them follow. With `envs`, only
    states of these environments are shown.
    """

    def __init__(
        self, states: Sequence[State], file: AnnotationFile, envs: Sequence[str] = ()
    ) -> None:
        self._lock = RLock()
        self._file = file
        self._envs = set(envs)
        self._states: dict[str, State] = {}
        self._given: list[tuple[Annotation | None, Annotation]] = []  # before, after
        self._written: dict[str, list[Annotation | None]] = {}  # of each state, first to last
        self._closed = False
        self.notice = ""
        for state in states:
            self._add(state)
        self._take_in()

    @property
    def defects(self) -> list[Defect]:
        """Lines of the file that are no annotations."""
        return self._file.defects

    @property
    def order(self) -> list[str]:
        """Ids of the states."""
        return list(self._states)

    def refresh(self) -> None:
        """Take in what somebody else has written into the file.

        An editor that saves an older copy of the file takes answers out that were given since it
        was opened: those are put back, and `notice` says so.
        """
        with self._lock:
            if not self._file.refresh():
                return
            self._take_in()
            lost = self._lost()
            if lost:
                for after in reversed(lost):
                    self._put(self._answers.get(after.state), after)
                self.notice = (
                    f"{self._file.path.name} was saved by hand without the last {len(lost)} "
                    f"answer{'s' * (len(lost) > 1)}; put back. Undo takes them out one by one."
                )

    def view(self, state: str) -> View:
        """One state as it stands now."""
        with self._lock:
            self.refresh()
            return self._view(self._known(state))

    def overview(self) -> dict[str, Any]:
        """Which states are answered, and at which revision each is."""
        with self._lock:
            self.refresh()
            rows = [
                {"id": key, "env": state.env, "answered": key in self._answers,
                 "revision": self._revision(key)}
                for key, state in self._states.items()
            ]  # fmt: skip
            return {
                "states": rows,
                "total": len(rows),
                "answered": sum(row["answered"] for row in rows),
                "undo": len(self._given),
            }

    def answer(self, state: str, revision: str, text: str, primitive: str) -> View:
        """Write a person's answer; it is on disk when this returns.

        Raises:
            AnswerError: if it is none.
            Conflict: if the state is not at `revision` any more.
        """
        with self._lock:
            if self._closed:
                raise AnswerError("`cep annotate` is ending; the answer was not taken.")
            self.notice = ""
            self.refresh()
            known = self._known(state)
            row = {
                "observation": plain_numbers(known.observation), "text": text,
                "primitive": primitive, "source": "person", "env": known.env,
            }  # fmt: skip
            new = annotation_of(row, control_spec(known.env).family, 0)
            if isinstance(new, Defect):
                raise AnswerError(new.message[:1].upper() + new.message[1:], new.hint)
            if revision != self._revision(state):
                raise Conflict("It was answered elsewhere meanwhile; yours is not saved yet.")
            before = self._answers.get(state)
            if new != before:
                self._put(before, new)
                self._given.append((before, new))
                self._written.setdefault(state, [before]).append(new)
            return self._view(known)

    def undo(self) -> Annotation | None:
        """Take back the last answer of this session; what it said, or None if there is none.

        Raises:
            Conflict: if it has been changed since, by hand; it is forgotten then, and stays.
        """
        with self._lock:
            self.refresh()
            if not self._given:
                return None
            before, after = self._given.pop()
            if self._answers.get(after.state) != after:
                raise Conflict("The last answer was changed by hand since, so it stays.")
            if before is None:
                self._file.remove(after)
            else:
                self._file.replace(after, before)
            self._written[after.state].append(before)
            self._take_in()
            return after

    def next_after(self, state: str | None, skipped: Collection[str] = ()) -> str | None:
        """The next state without a person's answer, from `state` on and round; None when done."""
        with self._lock:
            order = self.order
            start = order.index(state) + 1 if state in self._states else 0
            turned = order[start:] + order[:start]
            done = self._answers.keys() | set(skipped)
            return next((key for key in turned if key not in done), None)

    def close(self) -> None:
        """Take no more answers; one that is being written is finished first."""
        with self._lock:
            self._closed = True
            self.refresh()

    def state(self, state: str) -> State:
        """The state with an id."""
        with self._lock:
            return self._known(state)

    def _lost(self) -> list[Annotation]:
        """What the file lacks of the last answers, the last first: one for each state.

        A state is as an older copy had it where it is as it ever was in this session but for its
        last answer; what was never in it comes from a person's hand, and stays.
        """
        lost: dict[str, Annotation] = {}
        last = {after.state: after for _, after in self._given}
        for _, after in reversed(self._given):
            if last.pop(after.state, None) is None:
                continue
            current = self._answers.get(after.state)
            written = self._written[after.state]
            if current == after and written.count(after) == 1:
                break  # the file is younger than this answer
            if current != after and current in written:
                lost[after.state] = after
        return list(lost.values())

    def _put(self, before: Annotation | None, after: Annotation) -> None:
        if before is None:
            self._file.append([after])
        else:
            self._file.replace(before, after)
        self._take_in()

    def _take_in(self) -> None:
        self._believed = {found.state: found for found in believed(self._file.annotations)}
        self._answers = {
            key: found for key, found in self._believed.items() if found.source == "person"
        }
        for found in self._believed.values():
            self._add(State(found.env, found.observation))

    def _add(self, state: State) -> None:
        if not self._envs or state.env in self._envs:
            self._states.setdefault(state.id, state)

    def _known(self, state: str) -> State:
        if state not in self._states:
            raise AnswerError(f"There is no state `{state}` here.", "Reload the page.")
        return self._states[state]

    def _view(self, state: State) -> View:
        best = self._believed.get(state.id)
        if best is None:
            best = suggestion(control_spec(state.env), state.observation)
        return View(state, best, self._revision(state.id), state.id in self._answers)

    def _revision(self, state: str) -> str:
        answer = self._answers.get(state)
        if answer is None:
            return ""
        return hashlib.sha256(to_line(answer).encode()).hexdigest()[:12]


def described(view: View) -> dict[str, Any]:
    """All that a face of the session shows of a state."""
    spec = control_spec(view.state.env)
    pairs = zip(spec.features, view.state.observation, strict=True)
    return {
        "id": view.state.id,
        "env": spec.id,
        "goal": spec.goal,
        "features": [
            {"name": f.name, "unit": f.unit, "meaning": f.meaning, "value": value}
            for f, value in pairs
        ],
        "primitives": [{"name": p.name, "meaning": p.meaning} for p in spec.primitives],
        "shown": said(view.shown),
        "revision": view.revision,
        "answered": view.answered,
    }


def said(annotation: Annotation) -> dict[str, str]:
    """An annotation without its state."""
    return {name: getattr(annotation, name) for name in ("text", "primitive", "source")}
