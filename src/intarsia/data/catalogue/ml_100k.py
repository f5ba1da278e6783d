"""MovieLens 100K: 100,000 ratings of 943 users for 1,682 movies, 1997 and 1998."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import Wheel, ZipDownload

_FLAGS = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
)
GENRES = _FLAGS.split()
USER_COLUMNS = ["user_id", "age", "gender", "occupation", "zip_code"]
ITEM_COLUMNS = ["item_id", "title", "release_year", "genres"]


def read(folder: Path) -> RawLog:
    """Reads the publisher's files (`u.data`, ...) or atomic files (`ml-100k.inter`, ...).

    Returns:
        Interactions (user_id, item_id, rating, timestamp), users (user_id, age, gender, occupation, zip_code), items
        (item_id, title, release_year, genres separated by `|`).

    Raises:
        DataError: The folder holds neither.
    """
    if (folder / "ml-100k").is_dir():
        folder = folder / "ml-100k"
    if (folder / "ml-100k.inter").exists():
        return _read_atomic(folder)
    if (folder / "u.data").exists():
        return _read_published(folder)
    raise DataError(
        f"{folder} must hold MovieLens 100K: `u.data`, `u.user`, `u.item`, or `ml-100k.inter`, `.user`, `.item`. "
        f"Received: {', '.join(sorted(p.name for p in folder.iterdir())[:10]) if folder.is_dir() else 'no such folder'}"
    )


def _read_atomic(folder: Path) -> RawLog:
    def table(ending: str, names: list[str]) -> pl.DataFrame:
        frame = pl.read_csv(folder / f"ml-100k.{ending}", separator="\t", quote_char=None, infer_schema=False)
        return frame.rename(dict(zip(frame.columns, names, strict=True)))

    items = table("item", ITEM_COLUMNS).with_columns(pl.col("genres").str.replace_all(" ", "|", literal=True))
    interactions = table("inter", ["user_id", "item_id", "rating", "timestamp"])
    return RawLog(interactions, table("user", USER_COLUMNS), items.with_columns(_year(pl.col("release_year"))))


def _read_published(folder: Path) -> RawLog:
    def table(name: str, separator: str, names: list[str]) -> pl.DataFrame:
        raw = (folder / name).read_bytes().decode("latin-1").encode()
        return pl.read_csv(
            raw, separator=separator, quote_char=None, has_header=False, infer_schema=False, new_columns=names
        )

    interactions = table("u.data", "\t", ["user_id", "item_id", "rating", "timestamp"])
    users = table("u.user", "|", USER_COLUMNS)
    items = table("u.item", "|", ["item_id", "title", "release", "video", "url", *GENRES])
    genres = pl.concat_str(
        [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in GENRES], separator="|", ignore_nulls=True
    )
    items = items.select(
        "item_id",
        pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""),
        _year(pl.col("release").str.slice(-4)).alias("release_year"),
        genres.alias("genres"),
    )
    return RawLog(interactions, users, items)


def _year(column: pl.Expr) -> pl.Expr:
    """A year as text, empty where it is none."""
    return column.str.extract(r"^(\d{4})$", 1)


_VECTOR: dict[str, object] = {
    "embedding_dim": 16,
    "initializer": {"truncated_normal_initializer": {"stddev": 0.02}},
}

ENTRY = DatasetEntry(
    name="ml-100k",
    title="MovieLens 100K: 100,000 ratings (1 to 5) of 943 users for 1,682 movies",
    licence="Research use; not to be redistributed without permission (GroupLens, README of the data set)",
    sources=(
        ZipDownload(
            "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            "md5:0e33842e24a9c977be4e0107933c0723",
            {f"ml-100k/{name}": name for name in ("u.data", "u.user", "u.item")},
        ),
        Wheel(
            "recbole==1.2.1",
            {f"recbole/dataset_example/ml-100k/ml-100k.{e}": f"ml-100k.{e}" for e in ("inter", "user", "item")},
            {
                "ml-100k.inter": "sha256:4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                "ml-100k.user": "sha256:4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                "ml-100k.item": "sha256:51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            },
        ),
    ),
    read=read,
    defaults={
        "data_config": {
            "dataset": "ml-100k",
            "log": {
                "rating_field": "rating",
                "time_field": "timestamp",
                "title_field": "title",
                "positive_rating": 4,
            },
            "split": {"by": "time", "valid": 0.1, "test": 0.1},
            "label_fields": ["label"],
            "batch_size": 512,
            "num_epochs": 10,
        },
        "feature_config": {
            "features": [
                {"input_names": ["user_id"], "vocab": "auto", **_VECTOR},
                {
                    "input_names": ["age"],
                    "feature_type": "RawFeature",
                    "boundaries": [18, 25, 35, 45, 50, 56],
                    **_VECTOR,
                },
                {"input_names": ["gender"], "vocab": "auto", **_VECTOR},
                {"input_names": ["occupation"], "vocab": "auto", **_VECTOR},
                {"input_names": ["item_id"], "vocab": "auto", **_VECTOR, "embedding_name": "item"},
                {"input_names": ["release_year"], "vocab": "auto", **_VECTOR},
                {
                    "input_names": ["genres"],
                    "feature_type": "TagFeature",
                    "vocab": "auto",
                    **_VECTOR,
                    "combiner": "mean",
                },
                {
                    "input_names": ["history"],
                    "feature_type": "SequenceFeature",
                    "vocab": "auto",
                    **_VECTOR,
                    "embedding_name": "item",
                    "sequence_combiner": {"attention": {}},
                },
            ]
        },
    },
)

ENTRIES = {ENTRY.name: ENTRY}
