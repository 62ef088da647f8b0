"""What WebShop can be told; importing this loads no products."""

from dataclasses import dataclass, field, replace
from typing import Literal

from cepcli.config import require
from cepcli.workspace.variables import data_folder

_POSITIVE = ("products", "page_size", "title_words", "max_episode_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebShopOptions:
    """Options of the WebShop family."""

    folder: str | None = field(
        default=None,
        metadata={"help": "WebShop's product files; absent: $WEBSHOP_DATA, else generated ones"},
    )
    files: Literal["1000", "all"] = field(
        default="1000", metadata={"help": "which of a folder's files: the first 1000 or all"}
    )
    generated: bool = field(
        default=False, metadata={"help": "generated products, whatever $WEBSHOP_DATA says"}
    )
    products: int | None = field(
        default=None,
        metadata={"help": "the first so many of the files (absent: all), or generated (1000)"},
    )
    goals: Literal["synthetic", "human"] = field(
        default="synthetic", metadata={"help": "instructions made of attributes, or people's"}
    )
    heldout_share: float = field(
        default=0.2, metadata={"help": "of the products with a goal, those that are held out"}
    )
    seed: int = field(
        default=0, metadata={"help": "of generated products, drawn prices and price limits"}
    )
    page_size: int = field(default=10, metadata={"help": "products on a page of results"})
    title_words: int | None = field(
        default=None, metadata={"help": "words of a title that pages show; absent: all"}
    )
    item_links: Literal["asin", "title"] = field(
        default="asin", metadata={"help": "click[b0…] as on the page, or click[item - title]"}
    )
    show_chosen: bool = field(
        default=True, metadata={"help": "an item's page tells which options have been clicked"}
    )
    max_episode_steps: int = field(default=20, metadata={"help": "decisions before truncation"})

    def __post_init__(self) -> None:
        """Check ranges, and that two options do not contradict each other."""
        for name in _POSITIVE:
            value = getattr(self, name)
            require(value is None or value >= 1, f"`{name}` is {value}, expected ≥ 1.")
        require(
            0 < self.heldout_share < 1,
            f"`heldout_share` is {self.heldout_share}, expected between 0 and 1.",
        )
        require(self.seed >= 0, f"`seed` is {self.seed}, expected ≥ 0.")
        require(
            not (self.generated and self.folder),
            f"`generated` is true and `folder` is {self.folder!r}, expected one of the two.",
        )
        require(
            not (self.generated and self.goals == "human"),
            "`goals` is human and the products are generated; people wrote goals for those of "
            "WebShop's files, in $WEBSHOP_DATA or `folder`.",
        )


def settled(options: WebShopOptions) -> WebShopOptions:
    """The options with the folder that `$WEBSHOP_DATA` names; without one, `generated`."""
    if options.generated:
        return options
    folder = data_folder("WEBSHOP_DATA", options.folder)
    if folder is None:
        return replace(options, generated=True)
    return replace(options, folder=str(folder))
