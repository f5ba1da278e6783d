"""Yelp: reviews of businesses. Its publisher gives a new edition every few years, to whoever agrees to its terms."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ByHand
from intarsia.data.catalogue.layouts import find, read_atomic, typed, wrong_folder
from intarsia.data.catalogue.records import read_records
from intarsia.data.catalogue.short_form import short_form

_REVIEWS, _BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"
_REVIEW = {"user_id": "user_id", "business_id": "item_id", "stars": "rating", "date": "timestamp"}


def read(folder: Path) -> RawLog:
    """Reviews (user_id, item_id, rating, timestamp), businesses (item_id, title, city, categories)."""
    reviews, businesses = find(folder, _REVIEWS), find(folder, _BUSINESSES)
    if reviews is None:
        if (raw := read_atomic(folder)) is not None:
            return raw
        raise wrong_folder(folder, "Yelp", f"`{_REVIEWS}` and `{_BUSINESSES}`, or an `.inter` file.")
    table = read_records(reviews, [*_REVIEW], each=lambda block: typed(block.rename(_REVIEW)))
    return RawLog(table, items=None if businesses is None else read_businesses(businesses))


def read_businesses(path: Path) -> pl.DataFrame:
    """Businesses, their categories separated by `|`."""
    table = read_records(path, ["business_id", "name", "city", "categories"])
    table = table.rename({"business_id": "item_id", "name": "title"})
    return table.with_columns(pl.col("categories").str.replace_all(", ", "|", literal=True))


ENTRIES = {
    "yelp": DatasetEntry(
        name="yelp",
        title="Yelp Open Dataset: about 7 million reviews (1 to 5 stars) of 2 million users for 150,000 businesses",
        licence="Yelp's dataset agreement: academic use, no redistribution",
        sources=(
            ByHand(
                "https://business.yelp.com/data/resources/open-dataset/",
                (_REVIEWS, _BUSINESSES),
                "Yelp gives its files to those who agree to its terms",
            ),
        ),
        read=read,
        defaults=short_form(
            "yelp",
            {"rating_field": "rating", "time_field": "timestamp", "title_field": "title", "positive_rating": 4},
            items=("city",),
            tags=("categories",),
        ),
    )
}
