"""MovieLens 1M, 10M, 20M, 25M, 32M and the small sample of the latest ratings: who rated which movie when.

The publisher writes two layouts. Up to 10M: `ratings.dat`, `movies.dat` (and for 1M `users.dat`) without a header,
cells separated by `::`. From 20M on: `ratings.csv` and `movies.csv` with a header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ZipDownload
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, text_table, wrong_folder
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.tables import Shape, all_columns, read_columns

LICENCE = "Research use; not to be redistributed without permission (GroupLens, README of the data set)"
_SITE = "https://files.grouplens.org/datasets/movielens/"
_RATING = ("user_id", "item_id", "rating", "timestamp")
_MOVIE = ("item_id", "title", "genres")
_USER = ("user_id", "gender", "age", "occupation", "zip_code")


def reader(title: str, encoding: str = "utf-8") -> Callable[[Path], RawLog]:
    """A reader of folders in either layout, or with atomic files.

    Args:
        title: Name of the data set for messages.
        encoding: How the names of movies are written in `movies.dat`.
    """

    def read(folder: Path) -> RawLog:
        if (ratings := find(folder, "ratings.dat")) is not None:
            movies, users = find(folder, "movies.dat"), find(folder, "users.dat")
            return RawLog(
                read_log(ratings, LOG, Shape("::", _RATING, quoting=False)),
                None if users is None else text_table(users, "::", _USER),
                None if movies is None else tidy(text_table(movies, "::", _MOVIE, encoding=encoding)),
            )
        if (ratings := find(folder, "ratings.csv")) is not None:
            movies = find(folder, "movies.csv")
            return RawLog(
                read_log(ratings, {**LOG, "user_id": ("userId",), "item_id": ("movieId",)}, Shape(",")),
                items=None if movies is None else tidy(_with_header(movies)),
            )
        if (raw := read_atomic(folder)) is not None:
            return raw if raw.items is None else replace(raw, items=tidy(raw.items))
        raise wrong_folder(
            folder, title, "`ratings.dat` and `movies.dat`, or `ratings.csv` and `movies.csv`, or an `.inter` file."
        )

    return read


def tidy(movies: pl.DataFrame) -> pl.DataFrame:
    """Movies with the year apart from the title, and no genre where the publisher says that there is none."""
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$", 1)
    movies = movies.with_columns(title=pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""), **_missing(movies, year))
    if "genres" in movies.columns:
        movies = movies.with_columns(genres=pl.when(pl.col("genres") != "(no genres listed)").then(pl.col("genres")))
    return movies


def _missing(movies: pl.DataFrame, year: pl.Expr) -> dict[str, pl.Expr]:
    return {} if "release_year" in movies.columns else {"release_year": year}


def _with_header(path: Path) -> pl.DataFrame:
    table = read_columns([path], Shape(","), all_columns).cast(pl.String)
    return table.rename({"movieId": "item_id"}).select(_MOVIE)


def _entry(
    name: str, title: str, digest: str, folder: str, files: tuple[str, ...], encoding: str = "utf-8"
) -> DatasetEntry:
    short = title.partition(":")[0]
    return DatasetEntry(
        name=name,
        title=title,
        licence=LICENCE,
        sources=(ZipDownload(f"{_SITE}{name}.zip", digest, {f"{folder}/{file}": file for file in files}),),
        read=reader(short, encoding),
        defaults=short_form(
            name,
            {"rating_field": "rating", "time_field": "timestamp", "title_field": "title", "positive_rating": 4},
            users=("gender", "age", "occupation") if "users.dat" in files else (),
            items=("release_year",),
            tags=("genres",),
        ),
    )


_DAT = ("ratings.dat", "movies.dat")
_CSV = ("ratings.csv", "movies.csv")

ENTRIES = {
    entry.name: entry
    for entry in (
        _entry(
            "ml-1m",
            "MovieLens 1M: 1,000,209 ratings (1 to 5) of 6,040 users for 3,706 movies, 2000 to 2003",
            "md5:c4d9eecfca2ab87c1945afe126590906",
            "ml-1m",
            (*_DAT, "users.dat"),
            "latin-1",
        ),
        _entry(
            "ml-10m",
            "MovieLens 10M: 10,000,054 ratings (0.5 to 5) of 69,878 users for 10,677 movies, 1995 to 2009",
            "md5:ce571fd55effeba0271552578f2648bd",
            "ml-10M100K",
            _DAT,
        ),
        _entry(
            "ml-20m",
            "MovieLens 20M: 20,000,263 ratings (0.5 to 5) of 138,493 users for 26,744 movies, 1995 to 2015",
            "md5:cd245b17a1ae2cc31bb14903e1204af3",
            "ml-20m",
            _CSV,
        ),
        _entry(
            "ml-25m",
            "MovieLens 25M: 25,000,095 ratings (0.5 to 5) of 162,541 users for 59,047 movies, 1995 to 2019",
            "md5:6b51fb2759a8657d3bfcbfc42b592ada",
            "ml-25m",
            _CSV,
        ),
        _entry(
            "ml-32m",
            "MovieLens 32M: 32,000,204 ratings (0.5 to 5) of 200,948 users for 84,432 movies, 1995 to 2023",
            "md5:d472be332d4daa821edc399621853b57",
            "ml-32m",
            _CSV,
        ),
        # Its publisher replaces this one from time to time.
        _entry(
            "ml-latest-small",
            "MovieLens latest, small: about 100,000 ratings of some 600 users for 9,000 movies; for trying things out",
            "",
            "ml-latest-small",
            _CSV,
        ),
    )
}
