"""What the household generator knows of homes: rooms, furniture, things and where they may be.

Names, properties and places are those of ALFWorld's own games (AI2-THOR's), so that a prior tuned
on made games meets no new words in the official ones.
"""

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class Room:
    """A kind of room.

    Attributes:
        always: receptacles that each such room has, by type.
        sometimes: further ones, as often as they should be drawn; see `SINGLE`.
        things: what lies about in it.
    """

    always: tuple[str, ...]
    sometimes: tuple[str, ...]
    things: tuple[str, ...]


ROOMS = {
    "kitchen": Room(
        _words("Fridge Microwave SinkBasin CounterTop StoveBurner"),
        _words(
            "Cabinet Cabinet Cabinet Cabinet Drawer Drawer Drawer CounterTop DiningTable Shelf "
            "StoveBurner CoffeeMachine GarbageCan SideTable Toaster"
        ),
        _words(
            "Apple Bowl Bread ButterKnife Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug "
            "Pan PepperShaker Plate Pot Potato SaltShaker SoapBottle Spatula Spoon Tomato Vase "
            "WineBottle"
        ),
    ),
    "bathroom": Room(
        _words("SinkBasin Toilet CounterTop GarbageCan"),
        _words(
            "Cabinet Cabinet Cabinet Drawer Drawer Drawer Shelf BathtubBasin ToiletPaperHanger "
            "HandTowelHolder HandTowelHolder Cart SideTable Dresser"
        ),
        _words(
            "Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper"
        ),
    ),
    "bedroom": Room(
        _words("Bed Desk SideTable GarbageCan"),
        _words(
            "Drawer Drawer Drawer Drawer Shelf Shelf Shelf Dresser ArmChair Safe Cabinet SideTable "
            "LaundryHamper DiningTable Desk"
        ),
        _words(
            "AlarmClock BaseballBat BasketBall Book Bowl Box CD CellPhone Cloth CreditCard "
            "KeyChain Laptop Mug Pen Pencil Pillow Statue TennisRacket TissueBox Vase Watch"
        ),
    ),
    "living room": Room(
        _words("Sofa CoffeeTable SideTable GarbageCan"),
        _words(
            "ArmChair ArmChair Drawer Drawer Drawer Dresser Shelf Shelf TVStand DiningTable "
            "Cabinet Cabinet Ottoman Safe SideTable Desk"
        ),
        _words(
            "Book Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Pillow "
            "Plate RemoteControl Statue TissueBox Vase Watch WateringCan"
        ),
    ),
}  # fmt: skip

#: A room has at most one of each.
SINGLE = frozenset(
    _words(
        "Fridge Microwave SinkBasin CoffeeMachine Toaster Toilet GarbageCan BathtubBasin Bed Safe "
        "ToiletPaperHanger Cart LaundryHamper TVStand Sofa CoffeeTable"
    )
)
OPENABLE = frozenset(_words("Fridge Microwave Cabinet Drawer Safe"))
CLEANABLE = frozenset(
    _words(
        "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug Pan "
        "Plate Pot Potato SoapBar Spatula Spoon Tomato"
    )
)
HEATABLE = frozenset(_words("Apple Bread Cup Egg Mug Plate Potato Tomato"))
COOLABLE = frozenset(
    _words("Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle")
)
SLICEABLE = frozenset(_words("Apple Bread Egg Lettuce Potato Tomato"))
#: Where a desk lamp may stand.
LAMP_PLACES = _words("Desk SideTable Dresser Shelf DiningTable CoffeeTable")

_TABLE = (
    "AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone "
    "Cloth CreditCard Cup DishSponge Egg Fork Kettle KeyChain Knife Laptop Lettuce Mug Newspaper "
    "Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBottle Spatula "
    "Spoon SprayBottle Statue TennisRacket TissueBox Tomato Vase Watch WateringCan WineBottle"
)
_SEAT = "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl"
_BATH = "Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper"
#: What may be put in or on a receptacle.
HOLDS = {
    "ArmChair": _words(_SEAT),
    "BathtubBasin": _words("Cloth DishSponge HandTowel SoapBar"),
    "Bed": _words("BaseballBat BasketBall Book CellPhone Laptop Pillow TennisRacket"),
    "Cabinet": _words(
        "Book Bowl Box CD Candle Cloth Cup DishSponge HandTowel Kettle Ladle Mug Newspaper Pan "
        "PepperShaker Plate Pot SaltShaker SoapBar SoapBottle SprayBottle TissueBox ToiletPaper "
        "Vase WateringCan WineBottle"
    ),
    "Cart": _words(_BATH),
    "CoffeeMachine": _words("Mug"),
    "CoffeeTable": _words(
        "Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Plate "
        "RemoteControl Statue TissueBox Vase Watch WateringCan"
    ),
    "CounterTop": _words(
        "AlarmClock Apple Book Bowl Bread ButterKnife CD Candle CellPhone Cloth CreditCard Cup "
        "DishSponge Egg Fork HandTowel Kettle KeyChain Knife Ladle Lettuce Mug Pan Pen Pencil "
        "PepperShaker Plate Pot Potato SaltShaker SoapBar SoapBottle Spatula Spoon SprayBottle "
        "Statue TissueBox ToiletPaper Tomato Vase WineBottle"
    ),
    "Desk": _words(
        "AlarmClock BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen "
        "Pencil RemoteControl Statue TennisRacket TissueBox Vase Watch"
    ),
    "DiningTable": _words(f"{_TABLE} Ladle"),
    "Drawer": _words(
        "Book ButterKnife CD Candle CellPhone Cloth CreditCard DishSponge Fork HandTowel KeyChain "
        "Knife Ladle Newspaper Pen Pencil PepperShaker RemoteControl SaltShaker SoapBar SoapBottle "
        "Spatula Spoon SprayBottle TissueBox ToiletPaper Watch WateringCan"
    ),
    "Dresser": _words(
        "AlarmClock BasketBall Book Bowl Box CD Candle CellPhone Cloth CreditCard KeyChain Laptop "
        "Mug Newspaper Pen Pencil Plate RemoteControl SprayBottle Statue TennisRacket TissueBox "
        "ToiletPaper Vase Watch WateringCan"
    ),
    "Fridge": _words(
        "Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle"
    ),
    "GarbageCan": _words(
        "Apple Bread CD Cloth DishSponge Egg HandTowel Lettuce Newspaper Pen Pencil Potato SoapBar "
        "SoapBottle SprayBottle TissueBox ToiletPaper Tomato WineBottle"
    ),
    "HandTowelHolder": _words("HandTowel"),
    "LaundryHamper": _words("Cloth"),
    "Microwave": _words("Apple Bowl Bread Cup Egg Mug Plate Potato Tomato"),
    "Ottoman": _words(_SEAT),
    "Safe": _words("CD CellPhone CreditCard KeyChain"),
    "Shelf": _words(
        "AlarmClock Book Bowl Box CD Candle CellPhone Cloth CreditCard Cup DishSponge HandTowel "
        "Kettle KeyChain Mug Newspaper Pen Pencil PepperShaker Plate Pot RemoteControl SaltShaker "
        "SoapBar SoapBottle SprayBottle Statue TissueBox ToiletPaper Vase Watch WateringCan "
        "WineBottle"
    ),
    "SideTable": _words(f"{_TABLE} HandTowel SoapBar ToiletPaper"),
    "SinkBasin": _words(
        "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork HandTowel Kettle Knife Ladle Lettuce "
        "Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato"
    ),
    "Sofa": _words(_SEAT),
    "StoveBurner": _words("Kettle Pan Pot"),
    "TVStand": _words("TissueBox"),
    "Toaster": (),
    "Toilet": _words(_BATH),
    "ToiletPaperHanger": _words("ToiletPaper"),
}  # fmt: skip
