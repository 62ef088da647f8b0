"""Where files of ALFWorld and WebShop lie, if somebody put them on this machine."""

import os
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


def _data():
    """`$CEP_TEST_DATA`, else a folder `*/data` beside the checkout that holds both."""
    if "CEP_TEST_DATA" in os.environ:
        return Path(os.environ["CEP_TEST_DATA"])
    beside = sorted(_CHECKOUT.parent.glob("*/data"))
    found = (one for one in beside if (one / "alfworld").is_dir() and (one / "webshop").is_dir())
    return next(found, _CHECKOUT / "no-real-data")


DATA = _data()
#: ALFWorld's games, as they are published.
ALFWORLD = DATA / "alfworld" / "json_2.1.1.tar.xz"
#: WebShop's files for a thousand products.
WEBSHOP = DATA / "webshop"
