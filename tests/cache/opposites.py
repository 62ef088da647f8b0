"""A hundred pairs of short texts that need different answers, by the class of their difference."""

PAIRS = {
    "numbers": """
        take 2 keys | take 3 keys
        wait for one minute | wait for ten minutes
        the temperature is -5 | the temperature is 5
        add 0.5 cups of milk | add 5 cups of milk
        the price is 1,000 | the price is 100
        go to room 12 | go to room 21
        the ball is 1 step away | the ball is 4 steps away
        shelf two holds the mug | shelf three holds the mug
        you have no coins | you have seven coins
        the first door leads home | the second door leads home
        drink half of it | drink all of it
        the train leaves at 10:30 | the train leaves at 10:45
        press it once | press it twice
        more sugar is needed | less sugar is needed
        many guards are here | few guards are here
        key_1 fits the chest | key_2 fits the chest
        put 20% of it in | put 80% of it in
        x < 3 holds | x > 3 holds
    """,
    "directions": """
        the door is on your left | the door is on your right
        the exit is north | the exit is south
        turn east at the well | turn west at the well
        the ball is forward | the ball is backward
        climb up the ladder | climb down the ladder
        the key is above the shelf | the key is below the shelf
        the mug is inside the cupboard | the mug is outside the cupboard
        the wolf is behind you | the wolf is ahead of you
        walk towards the fire | walk away from the fire
        the box is near | the box is far
        rotate it clockwise | rotate it counterclockwise
        the book is on the desk | the book is under the desk
        eat before the walk | eat after the walk
        the stairs lead upstairs | the stairs lead downstairs
        the left-hand path is safe | the right-hand path is safe
        the arrow points → | the arrow points ←
        take the top drawer | take the bottom drawer
        go northeast from here | go southwest from here
    """,
    "colours": """
        take the red key | take the blue key
        the light is green | the light is red
        a grey box is here | a purple box is here
        the black stone opens it | the white stone opens it
        cut the yellow wire | cut the blue wire
        the orange pill heals | the pink pill heals
        drink the brown potion | drink the violet potion
        the golden crown is real | the silver crown is real
        enter the crimson gate | enter the turquoise gate
        the dark tile is safe | the bright tile is safe
    """,
    "negation": """
        you can take the lamp | you cannot take the lamp
        the bridge is safe | the bridge is not safe
        the guard is asleep | the guard isn't asleep
        you have the ticket | you don't have the ticket
        always ring the bell | never ring the bell
        leave with the child | leave without the child
        there is food here | there is no food here
        everything is ready | nothing is ready
        the answer is true | the answer is false
        say yes to him | say no to him
        the door is locked | the door is unlocked
        the path is visible | the path is invisible
        the tool is useful | the tool is useless
        the key works | the key hardly works
        somebody is home | nobody is home
        either road will do | neither road will do
        the water is drinkable | the water is undrinkable
        eat the soup | do not eat the soup
    """,
    "states": """
        the door is open | the door is closed
        the fridge is opened | the fridge is shut
        the chest is locked | the chest is ajar
        the lamp is on | the lamp is off
        the bottle is full | the bottle is empty
        the stove is hot | the stove is cold
        the plate is clean | the plate is dirty
        the meat is raw | the meat is cooked
        the robot moves fast | the robot moves slow
        the wall is high | the wall is low
        push the cart | pull the cart
        enter the house | leave the house
        pick up the stone | drop the stone
        the engine starts | the engine stops
        the rope is strong | the rope is weak
        the shop is busy | the shop is free
        lock the gate | unlock the gate
        the patient is alive | the patient is dead
    """,
    "word order": """
        the key is in the box | the box is in the key
        the cat chases the dog | the dog chases the cat
        the mug is here, the fork is gone | the fork is here, the mug is gone
        give Anna the pear, Ben the plum | give Anna the plum, Ben the pear
        sword beats shield | shield beats sword
        the king follows the queen | the queen follows the king
        the red ball and the blue box | the red box and the blue ball
        the door is open and the window is closed | the window is open and the door is closed
        take the lamp and do not take the rope | take the rope and do not take the lamp
        the hall leads to the kitchen | the kitchen leads to the hall
        north is the cave and south is the lake | north is the lake and south is the cave
        the wolf is hungry, the sheep is fed | the sheep is hungry, the wolf is fed
        Anna owes money to Ben | Ben owes money to Anna
        the left lever then the bell | the bell then the left lever
        two cups and three spoons | two spoons and three cups
        the thief saw the guard | the guard saw the thief
        put the pan on the stove | put the stove on the pan
        the bird sits on the horse | the horse sits on the bird
    """,
}  # fmt: skip

#: Other words, none of which says anything that matters to an answer.
_FILLER = """
    stone walls carry moss and dust while old songs drift over quiet water where people talk about
    weather markets cousins and festivals as children chase kites beyond meadows and gardens
"""


def pairs() -> list[tuple[str, str]]:
    """All of them."""
    lines = [line for text in PAIRS.values() for line in text.strip().splitlines()]
    found = [tuple(part.strip() for part in line.split("|")) for line in lines]
    return [(one, other) for one, other in found]


def around(text: str, words: int, person: str = "traveller") -> str:
    """`text` with about so many other words around it, one of which is who tells it."""
    filler = _FILLER.split()
    told = [filler[number % len(filler)] for number in range(words - 2)]
    half = len(told) // 2
    return f"{' '.join(told[:half])}. {text}. {' '.join(told[half:])} says {person}."
