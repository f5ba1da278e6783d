"""Reviews of products at Amazon, one data set a category: the edition of 2014 with product data, and that of 2023.

`amazon-beauty` and the like are the ratings of 1996 to 2014, from which the 5-core files of many papers were made
(`data_config.filter: {k_core: 5}`). `amazon-2023-video-games` and the like reach to September 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import FileDownload, Together
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, typed, wrong_folder
from intarsia.data.catalogue.records import read_records
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.tables import Shape

LICENCE = "No licence is stated; its publisher asks to be cited (J. McAuley, UC San Diego) and means research use"
CATEGORIES = {
    "beauty": "Beauty",
    "books": "Books",
    "cds": "CDs_and_Vinyl",
    "clothing": "Clothing_Shoes_and_Jewelry",
    "electronics": "Electronics",
    "instruments": "Musical_Instruments",
    "movies": "Movies_and_TV",
    "office": "Office_Products",
    "sports": "Sports_and_Outdoors",
    "toys": "Toys_and_Games",
    "video-games": "Video_Games",
}
"""Short names of the categories of 2014, and those of their files."""

CATEGORIES_2023 = {
    "beauty": "All_Beauty",
    "books": "Books",
    "cds": "CDs_and_Vinyl",
    "instruments": "Musical_Instruments",
    "movies": "Movies_and_TV",
    "office": "Office_Products",
    "sports": "Sports_and_Outdoors",
    "toys": "Toys_and_Games",
    "video-games": "Video_Games",
}
"""Short names of some categories of 2023, and those of their files."""

_SITES = (
    "https://mcauleylab.ucsd.edu/public_datasets/data/amazon/categoryFiles/",
    "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
)
_SITE_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/0core/rating_only/"
_REVIEW = {"reviewerID": "user_id", "asin": "item_id", "overall": "rating", "unixReviewTime": "timestamp"}


def reader(category: str) -> Callable[[Path], RawLog]:
    """A reader of the edition of 2014: ratings or reviews, and product data where they are there.

    Args:
        category: As in the names of the files.
    """

    def read(folder: Path) -> RawLog:
        if (path := find(folder, f"ratings_{category}.csv")) is not None:
            table = read_log(path, LOG, Shape(",", ("user_id", "item_id", "rating", "timestamp")))
        elif (path := find(folder, f"reviews_{category}_5.json", f"reviews_{category}.json")) is not None:
            table = typed(read_records(path, [*_REVIEW]).rename(_REVIEW))
        elif (raw := read_atomic(folder)) is not None:
            return raw
        else:
            raise wrong_folder(
                folder,
                f"Amazon's {category} of 2014",
                f"`ratings_{category}.csv` or `reviews_{category}_5.json`, perhaps `meta_{category}.json`, or an "
                "`.inter` file.",
            )
        products = find(folder, f"meta_{category}.json")
        return RawLog(table, items=None if products is None else read_products(products))

    return read


def read_products(path: Path) -> pl.DataFrame:
    """Products, each once: `item_id`, `title`, `brand`, `categories` (separated by `|`)."""
    table = read_records(path, ["asin", "title", "brand", "categories"])
    return table.rename({"asin": "item_id"}).drop_nulls("item_id").unique("item_id", keep="first", maintain_order=True)


def reader_2023(category: str) -> Callable[[Path], RawLog]:
    """A reader of the edition of 2023, whose times are milliseconds; they become seconds.

    Args:
        category: As in the names of the files.
    """

    def read(folder: Path) -> RawLog:
        path = find(folder, f"{category}.csv")
        if path is None:
            raise wrong_folder(folder, f"Amazon's {category} of 2023", f"`{category}.csv` with ratings alone.")
        table = read_log(path, {**LOG, "item_id": ("parent_asin",)}, Shape(","))
        return RawLog(table.with_columns(pl.col("timestamp").cast(pl.Float64) / 1000))

    return read


_ROLES = {"rating_field": "rating", "time_field": "timestamp", "positive_rating": 4}


def _entry(name: str, category: str) -> DatasetEntry:
    files = (f"ratings_{category}.csv", f"meta_{category}.json.gz")
    return DatasetEntry(
        name=name,
        title=f"Amazon reviews of 2014, {category.replace('_', ' ')}: ratings (1 to 5) and product data",
        licence=LICENCE,
        sources=tuple(Together(tuple(FileDownload(f"{site}{file}", "", file) for file in files)) for site in _SITES),
        read=reader(category),
        defaults=short_form(name, {**_ROLES, "title_field": "title"}, items=("brand",), tags=("categories",)),
    )


def _entry_2023(name: str, category: str) -> DatasetEntry:
    return DatasetEntry(
        name=name,
        title=f"Amazon reviews of 2023, {category.replace('_', ' ')}: ratings (1 to 5) alone",
        licence=LICENCE,
        sources=(FileDownload(f"{_SITE_2023}{category}.csv.gz", "", f"{category}.csv.gz"),),
        read=reader_2023(category),
        defaults=short_form(name, _ROLES),
    )


ENTRIES = {
    **{f"amazon-{short}": _entry(f"amazon-{short}", category) for short, category in CATEGORIES.items()},
    **{f"amazon-2023-{short}": _entry_2023(f"amazon-2023-{short}", name) for short, name in CATEGORIES_2023.items()},
}
