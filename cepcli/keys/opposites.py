"""What two texts must have in common for the answer to one to be right for the other.

The cosine of two long texts hardly changes with the one word that makes them opposites. So texts
are also compared word by word. Words that *carry* what an answer depends on (`CARRIERS`,
`_carries`) must be the same in the same order, the goals must be the same, and words that both
texts have must stand in the same order. Only neutral words may be added, left out or replaced.
Articles and punctuation do not count.

The word lists are English. A word in another script counts as a carrier.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple

#: Version of `Reading.signature`.
SIGNATURE = "words-1"

#: Letters from which a word counts where it is a part of another one.
_LEAST_PART = 3

_ARTICLES = frozenset({"a", "an", "the"})

#: Words that change what a text asks for, by class; regular inflections are added to them.
CARRIERS: dict[str, str] = {
    "numbers": """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
        ninety hundred thousand million billion dozen once twice thrice single double triple pair
        half quarter third fourth fifth sixth seventh eighth ninth tenth first second last next
        previous more most less least fewer few many much all some any every each both either only
        another other enough plus minus same different equal
    """,
    "directions": """
        left right up down forward forwards backward backwards back front ahead behind north south
        east west northeast northwest southeast southwest northern southern eastern western
        leftmost rightmost leftward rightward upward upwards downward downwards upstairs downstairs
        clockwise counterclockwise anticlockwise top bottom above below over under beneath
        underneath in into inside out outside on onto off from to toward towards away through past
        near far close beside between opposite along across around before after until since begin
        start end stop upper lower inner outer horizontal vertical
    """,
    "colours": """
        red orange yellow green blue purple violet indigo pink brown black white grey gray silver
        gold golden cyan magenta turquoise teal beige maroon navy olive lime crimson scarlet tan
        ivory cream bronze lavender khaki coral amber transparent opaque dark bright pale
    """,
    "negation": """
        no not none nothing nobody nowhere never neither nor without cannot except but unless
        instead hardly barely unable fail lack miss missing absent present available false true yes
        always impossible possible don't doesn't didn't isn't aren't wasn't weren't won't wouldn't
        can't couldn't shouldn't hasn't haven't hadn't mustn't needn't
    """,
    "states": """
        open close closed shut lock unlock locked ajar block free full empty hot cold warm cool wet
        dry clean dirty raw cook fry roast grill burn fresh rotten alive dead awake asleep sleep
        wake visible hidden hide show broken intact lit unlit ready busy safe dangerous fast slow
        quick high low tall short long big small large little wide narrow deep shallow heavy light
        strong weak hard soft rough smooth loud quiet old new young early late rich poor cheap
        expensive good bad better worse best worst right wrong true easy difficult straight bent
        bend upright lie stand sit rise fall raise increase decrease grow shrink gain lose lost win
        won succeed enter leave exit arrive depart push pull take drop put insert remove give get
        pick carry hold held release add subtract buy sell bought sold allow forbid accept reject
        enable disable connect disconnect attach detach active inactive begin finish move still
        turn stay male female man woman day night friend enemy
    """,
}

#: Before a word these make its opposite: locked, unlocked.
_NEGATING = ("un", "in", "im", "il", "ir", "dis", "non")

_WORD = re.compile(
    r"<goal\d+>"
    r"|(?:(?<![\w.])[-+−])?(?:\d+(?:[.,:/]\d+)*|\.\d+)"  # -3, 0.5, 1,000, 10:30
    r"|[^\W\d_]+(?:['’][^\W\d_]+)*"  # words: a hyphen or underscore joins two
    r"|[^\w\s.,;:!?\"'()\[\]{}’‘“”…–—-]|-(?![^\W\d])|(?<![^\W\d])-"  # <, %, →; a lone -
)


class Reading(NamedTuple):
    """A state, word by word, without articles.

    Attributes:
        goal: the words of the goal.
        text: the words of the text.
        names: what focus has marked in them, as it was called.
        signature: 32 bits of what an entry that is to answer must have in common: equal where the
            goals read the same and the texts have the same carriers in the same order.
    """

    goal: tuple[str, ...]
    text: tuple[str, ...]
    names: tuple[str, ...]
    signature: int


def read(goal: str, text: str, names: Iterable[str] = ()) -> Reading:
    """The words of a state; what focus marks, the `names`, is marked already."""
    goal_words, words = _words(goal), _words(text)
    carried = filter(_carries, words)
    content = "\0".join((*goal_words, "\n", *carried)).encode("utf-8", "surrogatepass")
    signature = int.from_bytes(blake2b(content, digest_size=4).digest(), "big", signed=True)
    return Reading(goal_words, words, tuple(" ".join(_words(name)) for name in names), signature)


def alike(one: Reading, other: Reading, actions: Iterable[str]) -> bool:
    """Whether two states differ in nothing that an answer about these actions depends on.

    Focus makes names alike, but not those of actions: where an action mentions what two goals name
    differently, even if only by a part of the name, the answers differ.
    """
    if one.goal != other.goal or not _only_neutral(one.text, other.text):
        return False
    if tuple(filter(_carries, one.text)) != tuple(filter(_carries, other.text)):
        return False  # of the same signature by chance
    pairs = zip_longest(one.names, other.names, fillvalue="")
    apart = {name for pair in pairs if pair[0] != pair[1] for name in pair if name}
    # a part of a name will do, which refuses an answer too many rather than too few
    parts = {part for name in apart for part in name.split()}
    words = [word for action in actions for word in _words(action)] if parts else ()
    return not any(_share(word, part) for word in words for part in parts)


def carriers_of_name(phrase: str) -> Iterator[str]:
    """The words of a marked phrase that the mark must not hide: all carriers but colours.

    Colours belong to names ("the red ball"), but "left" in "turn left" does not.
    """
    return (word for word in _words(phrase) if word not in _COLOURS and _carries(word))


def _words(text: str) -> tuple[str, ...]:
    """In small letters, without articles; most words need no regular expression to be found."""
    found: list[str] = []
    for chunk in text.lower().split():
        word = chunk if chunk.isalpha() else chunk.rstrip(".,;:!?)")
        if word.isalpha():
            found.append(word)
        else:
            found += _WORD.findall(chunk)
    return tuple([word for word in found if word not in _ARTICLES])


def _carries(word: str) -> bool:
    """Whether it is listed, or a number, sign, mark or contraction, or of another script."""
    return word in _CARRYING or not (word.isalpha() and word.isascii())


def _only_neutral(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether shared words stand in the same order, and no others are opposites by a prefix.

    Words that only one text has are left out; then one text must be the other with words added.
    """
    ours, theirs = set(one), set(other)
    if ours != theirs:
        if any(_negates(word, theirs) for word in ours - theirs):
            return False
        if any(_negates(word, ours) for word in theirs - ours):
            return False
        one = [word for word in one if word in theirs]
        other = [word for word in other if word in ours]
    shorter, longer = (one, other) if len(one) <= len(other) else (other, one)
    if len(shorter) == len(longer):
        return tuple(shorter) == tuple(longer)
    rest = iter(longer)
    return all(word in rest for word in shorter)


def _share(one: str, other: str) -> bool:
    """Whether one word is part of the other."""
    if min(len(one), len(other)) < _LEAST_PART:
        return one == other
    return one in other or other in one


def _negates(word: str, others: set[str]) -> bool:
    """Whether this is one of `others` with a negating prefix, or useless beside useful."""
    if word.endswith("less") and word.removesuffix("less") + "ful" in others:
        return True
    return any(word.startswith(p) and word.removeprefix(p) in others for p in _NEGATING)


def _inflected(word: str) -> Iterable[str]:
    """A word and its regular forms; some of them do not exist, which does no harm."""
    stems = [word, word + word[-1]]
    if word.endswith(("e", "y")):
        stems.append(word[:-1] + "i" * word.endswith("y"))
    endings = ("s", "es", "d", "ed", "ing", "er", "est", "ly", "en", "en" + "ed")
    return (word, *(stem + ending for stem in stems for ending in endings))


def _all(words: Iterable[str]) -> frozenset[str]:
    """With their inflections, and contractions also as they are written without an apostrophe."""
    return frozenset(form for word in words for form in _inflected(word.replace("'", "")))


_COLOURS = _all(CARRIERS["colours"].split())
_CARRYING = _all(word for words in CARRIERS.values() for word in words.split())
