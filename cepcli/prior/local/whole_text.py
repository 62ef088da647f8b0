"""Which tokens are scored: those of prompt and action as one text, by the model's own tokenizer.

Special tokens that the tokenizer puts before a text (BOS) belong to it; those that it puts behind
one (EOS) are left out, for the text goes on. An action's tokens are those of the whole text behind
what it shares with the tokens of the prompt alone. So a token that crosses the border, because the
vocabulary joins the prompt's last characters to the action's first, belongs to the action.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cepcli.errors import PriorError

#: Of a prompt's end: tokens and characters by which it is recognised.
_END_TOKENS = 2
_END_CHARACTERS = 8
#: Splits that are remembered.
_KEPT = 100_000
#: A text to find special tokens with, and the same with an action's end.
_PROBE = "go north"

_End = tuple[str, tuple[int, ...]]


class TokenSplit(NamedTuple):
    """Where a whole text parts from its prompt, and the action's tokens, which are scored.

    `dropped` is how many tokens at the end of the prompt alone the whole text does not have,
    because they were joined to the action's first.
    """

    dropped: int
    action: list[int]


class Ends(NamedTuple):
    """How many special tokens a tokenizer puts around a text."""

    before: int
    after: int

    def strip(self, ids: Sequence[int]) -> list[int]:
        """The tokens of a text that goes on."""
        return list(ids[: len(ids) - self.after])

    def plain(self, ids: Sequence[int]) -> int:
        """How many of the tokens are the text's own."""
        return len(ids) - self.before - self.after


def ended(action: str) -> str:
    """An action as it follows a prompt.

    The line break ends it, so that "go north" is not a part of "go north east".
    """
    return f" {action}\n"


#: What a tokenizer is asked about when it is met, see `find_ends`.
PROBES = (_PROBE, ended(_PROBE).lstrip())


def find_ends(model: str, plain: Sequence[int], full: Sequence[int], broken: Sequence[int]) -> Ends:
    """What a tokenizer puts around a text, by what it gives for `PROBES`.

    Args:
        model: its name, for the error.
        plain: tokens of the first probe without special ones.
        full: the same with them.
        broken: tokens of the second, which ends in a line break, without special ones.

    Raises:
        PriorError: if special tokens are not put around, or the line break leaves no trace.
    """
    if list(plain) == list(broken):
        raise PriorError(
            f"The tokenizer of `{model}` gives a line break no token, but cep ends each action by "
            "one, so that `go north` is told from the beginning of `go north east`.",
            "Take a model whose tokenizer keeps line breaks.",
        )
    for before in range(len(full) - len(plain) + 1):
        if list(full[before : before + len(plain)]) == list(plain):
            return Ends(before, len(full) - len(plain) - before)
    raise PriorError(
        f"The tokenizer of `{model}` gives other tokens for a text when it adds special ones "
        f"({list(full)} instead of {list(plain)} with some around it), so cep cannot tell which "
        "belong to the text.",
        "Take a model whose tokenizer puts special tokens around a text only.",
    )


def common_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two sequences share."""
    pairs = zip(one, other, strict=False)
    shared = min(len(one), len(other))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), shared)


class Borders:
    """How whole texts part from their prompts, remembered by action and the prompt's end.

    A whole text need not be tokenized when a prompt with the same last tokens and characters was
    followed by that action before, if at least one of those tokens stands left of the split. In
    byte-pair encoding a merge over the split would join the same two neighbours in both texts, and
    there was none in the first; what lies further left does not matter. It holds, too, for any
    vocabulary whose pieces do not go on behind a blank.

    Args:
        model: name of the model, for errors.
        remember: whether the above holds for its tokenizer.
    """

    def __init__(self, model: str, *, remember: bool = True) -> None:
        self._model = model
        self._remember = remember
        self._known: dict[tuple[_End, str], TokenSplit] = {}

    def unknown(self, text: str, prompt: Sequence[int], actions: Sequence[str]) -> list[str]:
        """The actions that need a tokenized whole text after this prompt."""
        end = _end(text, prompt)
        return [action for action in dict.fromkeys(actions) if (end, action) not in self._known]

    def splits(
        self,
        text: str,
        prompt: Sequence[int],
        actions: Sequence[str],
        whole: Mapping[str, Sequence[int]],
    ) -> list[TokenSplit]:
        """The split of each action after a prompt, whose tokens are given as it stands alone.

        Args:
            text: the prompt.
            prompt: its tokens.
            actions: as for `unknown`.
            whole: tokens of the whole text of each that was unknown.

        Raises:
            PriorError: if an action has no tokens of its own, or nothing comes before them.
        """
        end = _end(text, prompt)
        new = {}
        for action, ids in whole.items():
            shared = common_beginning(prompt, ids)
            new[action] = TokenSplit(len(prompt) - shared, list(ids[shared:]))
            if not text or not shared:
                raise PriorError(
                    f"A prompt is empty: nothing comes before the action `{action}` for "
                    f"`{self._model}` to predict it from.",
                    "Its template must render some text.",
                )
            if not new[action].action:
                raise PriorError(
                    f"The tokenizer of `{self._model}` gives the action `{action}` no token of its "
                    "own, so it has no likelihood.",
                    "Take a model whose tokenizer knows its characters.",
                )
        found = [new.get(action) or self._known[end, action] for action in actions]
        if len(self._known) + len(new) > _KEPT:
            self._known.clear()
        for action, split in new.items():
            if self._remember and split.dropped < len(end[1]):
                self._known[end, action] = split
        return found


def _end(text: str, prompt: Sequence[int]) -> _End:
    return text[-_END_CHARACTERS:], tuple(prompt[-_END_TOKENS:])
