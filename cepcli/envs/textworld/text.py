"""TextWorld's prose, shortened: tokens cost time, and equal states should read alike.

Dropped: banners, prompt marks, score counters, the sentence that welcomes you into each room, the
generator's stock jokes, that nothing lies on a table; in objectives the greeting, the farewell and
the connecting phrases. Whatever is not recognised stays. Pure functions of strings.
"""

import re

_TITLE = re.compile(r"^\s*-=\s*(.+?)\s*=-\s*$", re.MULTILINE)
_EXITS = (
    re.compile(r"You need an? (?:\w+ )?exit(?: without a door)?\? You should try going (\w+)\."),
    re.compile(
        r"There is an? (?:\w+ )?exit to the (\w+)\."
        r"(?: Don't worry, (?:it is \w+|there is no door)\.)?"
    ),
    re.compile(r"You don't like doors\? Why not try going (\w+), that entranceway is \w+\."),
)
_SEE = re.compile(
    r"(?:You (?:can )?(?:make out|see|spot|notice)|Look over there!|Oh, great\. Here's"
    r"|What's that over there\? It looks like it's|You scan the room, seeing"
    r"|You scan the room for [^,.!?]*, and you find|Were you looking for [^?]*\? Because[^,]*, it's"
    r"|Hey, want to see [^?]*\? Look over there,|Look out! It's a- oh, never mind, it's just"
    r"|You see a gleam over in a corner, where you can see|You smell [^,]* smell, and follow it to"
    r"|You rest your hand against a wall, but you miss the wall and fall onto"
    r"|You hear a noise behind you and spin around, but you can't see anything other than"
    r"|If you haven't noticed it already, there seems to be something there by the wall, it's"
    r"|You bend down to tie your shoe\. When you stand up, you notice"
    r"|Oh wow! Is that what I think it is\? It is! It's"
    r"|You lean against the wall, inadvertently pressing a secret button\."
    r" The wall opens up to reveal"
    r"|As if things weren't amazing enough already, you can even see)(?= an? )"
)
_JOKE = re.compile(
    r"Text[Ww]orld(?! style)|^You shudder|^You wonder idly|^Now why would"
    r"|^There's something strange"
    r"|^Huh, weird|what else, what else|^Hmmm|^You can't wait to tell|^Something scurries"
    r"|^Probably nothing|you bump your head|^The light flickers|^Wow! ?$|^Just like in the movies"
    r"|^What's the point of|^Hopefully|^You make a mental note|^You swear loudly"
    r"|^This always happens"
    r"|^Silly |^You think about smashing|^Aw, |^Oh! ?$|^Why couldn't there|^Hm\.|^[Oo]h well|^Hmm\."
    r"|^It would have been so cool|price tag|bucks\b|^That's ridiculous|could get you one"
    r"|^What a deal|where they got this|^Where'd they buy|^Make a note of this|^Does this look like"
    r"|^What a great pairing|^You can't really describe|Is that really what you were|^Is this it\?"
    r"|^You always thought|^Why\?|take a picture|^What a coincidence|^What a letdown|^What a waste"
    r"|worst thing that could"
    r"|^But (?:there isn't a thing on it|the thing is empty|the thing hasn't got anything on it)"
    r"|^Unfortunately, there isn't a thing|^But oh no!|^there's nothing on this piece of"
    r"|^The [\w -]+ appears to be empty|^Looks like someone's already been here|^However, the "
    r"|^The [\w -]+ is (?:normal|ordinary|standard|typical|usual|conventional|regular|common)\."
)
_TAIL = re.compile(r", (?:so there's that|what a horrible day)(?=[.!])| right there by you(?=[.!])")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_GREETING = re.compile(
    r"TextWorld|^Here is (?:your task for today|how to play)|^You do!"
    r"|there is something I need you to do"
)
_FAREWELL = re.compile(
    r"^(?:Once that's all handled, you can stop|And once you've done that, you win"
    r"|And if you do that, you're the winner|That's it|Got that\?|Good!|Alright, thanks)"
)
_LEAD = re.compile(
    r"^(?:First off, if it's not too much trouble, I need you to"
    r"|First of all, you could, like,|First, it would be [\w ]+ if you could"
    r"|First thing I need you to do is to|Your first objective is to|Your task for today is to"
    r"|Your objective is to|Please"
    r"|(?:First|Okay|Then|Next|And|Following|After|With|That done|If you|Once you|Having)"
    r"[^,]*,(?: and then,)?)\s*",
    re.IGNORECASE,
)
_EFFORT = re.compile(r"^(?:(?:try|make an effort|make an attempt|attempt) to|you can)\s+")
_ASSURE = re.compile(
    r"^(?:make (?:absolutely )?sure|assure|make it so|doublecheck|look and see|ensure|check)"
    r" that\s+"
)
_COUNTER = re.compile(r">\s{20,}.*$", re.DOTALL)
_NOISE = re.compile(
    r"Your score has just gone up by \w+ points?\.|\*\*\* (?:The End|You lost!) \*\*\*"
    r"|You scored \d+ out of a possible \d+, in \d+ turns?\."
    r"|Would you like to RESTART, RESTORE a saved game, QUIT or UNDO the last command\?"
)


def squeeze(text: str) -> str:
    """`text` on one line, with single spaces."""
    return " ".join(text.split())


def short_goal(objective: str) -> str:
    """An objective without its greeting and farewell, its steps joined by "then"."""
    objective = squeeze(objective)
    if not re.search(r"TextWorld|Your objective is to", objective):
        return objective
    steps = []
    for sentence in _SENTENCE.split(objective):
        if not _GREETING.search(sentence) and not _FAREWELL.match(sentence):
            step = _EFFORT.sub("", _LEAD.sub("", sentence)).rstrip(".!")
            steps.append(_ASSURE.sub("make sure ", step[:1].lower() + step[1:]))
    return ", then ".join(step for step in steps if step) or objective


def short_room(description: str) -> str:
    """A room description: its name, what is there, and its open exits in one sentence."""
    title = _TITLE.search(description)
    name = title.group(1) if title else ""
    paragraphs = description[title.end() if title else 0 :].strip().split("\n\n")
    body = squeeze(" ".join(paragraphs[1:]))
    exits = [(m.start(), m.group(1)) for pattern in _EXITS for m in pattern.finditer(body)]
    for pattern in _EXITS:
        body = pattern.sub("", body)
    body = _TAIL.sub("", _SEE.sub("You see", squeeze(body)))
    body = " ".join(s for s in _SENTENCE.split(body) if not _JOKE.search(s))
    directions = ", ".join(direction for _, direction in sorted(exits))
    parts = [f"{name}." if name else "", body, f"Exits: {directions}." if exits else ""]
    return squeeze(" ".join(parts))


def short_feedback(feedback: str) -> str:
    """What the last command did, or nothing when it only showed the room."""
    text = _NOISE.sub("", _COUNTER.sub("", feedback))
    return "" if _TITLE.search(text) else squeeze(text)


def recipe(feedback: str) -> str:
    """The recipe in a cookbook's text on one line, or nothing when there is none."""
    match = re.search(r"Ingredients:\s*\n(.+?)\n\s*\nDirections:\s*\n(.+?)\n\s*\n", feedback, re.S)
    if match is None:
        return ""
    ingredients, directions = (
        ", ".join(line.strip() for line in part.splitlines() if line.strip())
        for part in match.groups()
    )
    return f"Recipe: take {ingredients}; then {directions}."
