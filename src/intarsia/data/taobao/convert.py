"""Taobao's public display advertising data as sample files.

The publisher's four files (Ali_Display_Ad_Click, data set 56 of Tianchi) are 26.6 million impressions of eight days,
their ads and people, and 723 million behaviours of the same people over 22 days. One sample is one impression.

What becomes of them
- `tag_category_list`, `tag_brand_list`: categories and brands of the person's last 50 behaviours of any kind (view,
  cart, favourite, purchase) strictly before the impression, most recent first, so that a reader which keeps the first
  steps of a list keeps the recent ones. Of behaviours in the same second, the later line of the file is the more
  recent.
- `buy`: 1 if the impression was clicked and the person bought something of the ad's category and brand within the
  86,400 seconds after it. The files do not say which ad a purchase came from; this is the nearest that they allow. An
  ad without a brand has no purchases.
- `price`: a bucket from 0 to 49, `floor(3 * log2(1 + price))`, three buckets for each doubling; from 82,569 on 49. The
  rule is fixed, so nothing is learned from test ads.
- What the publisher writes as `NULL` (brands) or leaves empty (levels of a person), and the columns of ads and people
  that the side tables lack, are empty cells, and the price is then 0.
- Days are those of UTC+8. The last day becomes `test.csv`, the days before `train.csv`, each in the order of time.

Behaviours are read in a streaming pass that keeps only the chosen people, so memory grows with the share of people and
not with the file. People are chosen by a hash of their number: the same share and seed give the same people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError
from intarsia.core.files import replacing
from intarsia.data.taobao.columns import COLUMNS, MAX_HISTORY, PRICE_BUCKETS
from intarsia.data.taobao.lists import join_lists

SOURCE = "https://tianchi.aliyun.com/dataset/56"
DAY = 86_400
UTC_OFFSET = 8 * 3600
ROWS_AT_A_TIME = 100_000

FILES: dict[str, dict[str, pl.DataType]] = {
    "raw_sample.csv": {
        "user": pl.Int64(),
        "time_stamp": pl.Int64(),
        "adgroup_id": pl.Int64(),
        "pid": pl.String(),
        "clk": pl.Int8(),
    },
    "ad_feature.csv": {
        "adgroup_id": pl.Int64(),
        "cate_id": pl.Int64(),
        "campaign_id": pl.Int64(),
        "customer": pl.Int64(),
        "brand": pl.Int64(),
        "price": pl.Float64(),
    },
    "user_profile.csv": {
        "userid": pl.Int64(),
        "cms_segid": pl.Int64(),
        "cms_group_id": pl.Int64(),
        "final_gender_code": pl.Int64(),
        "age_level": pl.Int64(),
        "pvalue_level": pl.Int64(),
        "shopping_level": pl.Int64(),
        "occupation": pl.Int64(),
        "new_user_class_level": pl.Int64(),
    },
    "behavior_log.csv": {
        "user": pl.Int64(),
        "time_stamp": pl.Int64(),
        "btag": pl.String(),
        "cate": pl.Int64(),
        "brand": pl.Int64(),
    },
}
"""Columns that are read. The files may have more, in any order."""


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote.

    Attributes:
        train: Rows of all days but the last.
        test: Rows of the last day.
        rows: Rows of `train` and `test`.
        users: People that were kept.
        behaviours: Behaviours of these people.
        clicks: Clicked rows.
        purchases: Rows with a purchase.
    """

    train: Path
    test: Path
    rows: dict[str, int]
    users: int
    behaviours: int
    clicks: int
    purchases: int


def convert(
    raw_dir: str | Path,
    out_dir: str | Path,
    *,
    share: float = 0.05,
    max_history: int = MAX_HISTORY,
    seed: int = 17,
) -> Converted:
    """Writes `train.csv` and `test.csv` in the columns of `columns.COLUMNS`, without a header.

    Args:
        raw_dir: Folder with the publisher's four files, unpacked.
        out_dir: Folder, made where it is missing.
        share: Share of the people that is kept, above 0 and up to 1. Memory peaks at about 70 bytes
            for each of their behaviours: 3 GB for a share of 0.05, 50 GB for everybody.
        max_history: Steps of a history that are kept.
        seed: Which people are chosen.

    Raises:
        DataError: A file or a column is missing, a cell holds something else than a number, the share is out of range
            or leaves nobody, or all rows are of one day.
    """
    if not 0 < share <= 1 or max_history < 1:
        raise DataError(
            "`share` must be above 0 and at most 1, and `max_history` at least 1. Received: "
            f"share={share}, max_history={max_history}."
        )
    raw = Path(raw_dir)
    _check_files(raw)
    samples = _collect(_scan(raw, "raw_sample.csv").filter(_chosen("user", share, seed)), raw / "raw_sample.csv")
    if samples.is_empty():
        raise DataError(f"a share of {share} leaves no person of {raw / 'raw_sample.csv'}. Raise `share` (--share).")
    _check_samples(samples, raw / "raw_sample.csv")
    samples = samples.sort("time_stamp", maintain_order=True)
    day = (samples["time_stamp"] + UTC_OFFSET) // DAY
    last = (day == day.max()).to_numpy()
    if last.all():
        raise DataError(
            f"{raw / 'raw_sample.csv'} must hold several days, the last of which becomes the test part. Received: one "
            f"day, {samples.height} rows."
        )
    ads = _collect(_scan(raw, "ad_feature.csv"), raw / "ad_feature.csv").unique("adgroup_id", keep="first")
    people = _collect(_scan(raw, "user_profile.csv"), raw / "user_profile.csv").unique("userid", keep="first")
    samples = samples.join(ads, on="adgroup_id", how="left", maintain_order="left")
    samples = samples.join(people, left_on="user", right_on="userid", how="left", maintain_order="left")
    past = _Past.read(raw, share, seed)
    samples = samples.with_columns(_price_bucket("price"), past.purchases(samples).alias("buy"))
    samples = samples.rename({"user": "user_id"})
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", ~last), ("test", last)):
        with replacing(out / f"{name}.csv") as aside:
            _write(aside, samples.filter(rows), past, max_history)
    return Converted(
        out / "train.csv",
        out / "test.csv",
        {"train": int((~last).sum()), "test": int(last.sum())},
        samples["user_id"].n_unique(),
        past.events.height,
        int(samples["clk"].sum()),
        int(samples["buy"].sum()),
    )


class _Past:
    """Behaviours of the chosen people, sorted by person and time.

    `moments` (S,) joins person and second into one sorted number, so that one binary search finds the behaviours before
    an impression.
    """

    def __init__(self, events: pl.DataFrame) -> None:
        self.events = events
        self.moments = _moments(events["user"], events["time_stamp"])

    @classmethod
    def read(cls, raw: Path, share: float, seed: int) -> _Past:
        path = raw / "behavior_log.csv"
        # Lines whose time is before 1970 or after 2106 have no place in the order; lines without a category or a brand
        # would put the two lists out of step.
        possible = (
            pl.col("time_stamp").is_between(0, 2**32 - 1),
            ~pl.col("cate").is_null(),
            ~pl.col("brand").is_null(),
        )
        lazy = _scan(raw, "behavior_log.csv").filter(_chosen("user", share, seed), *possible)
        lazy = lazy.select(
            pl.col("user").cast(pl.Int32),
            pl.col("time_stamp").cast(pl.UInt32),
            pl.col("cate", "brand").cast(pl.Int32),
            bought=(pl.col("btag") == "buy").fill_null(False),
        )
        return cls(_collect(lazy, path).sort("user", "time_stamp", maintain_order=True))

    def windows(self, rows: pl.DataFrame, limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Start and end (N,) of the last `limit` behaviours strictly before each row."""
        user = rows["user_id"]
        ends = np.searchsorted(self.moments, _moments(user, rows["time_stamp"]))
        first = np.searchsorted(self.moments, _moments(user, pl.zeros(len(user), pl.Int64, eager=True)))
        return np.maximum(first, ends - limit), ends

    def lists(self, rows: pl.DataFrame, limit: int) -> pl.DataFrame:
        """The two list columns of the rows, most recent first."""
        starts, ends = self.windows(rows, limit)
        length = ends - starts
        before = np.cumsum(length) - length
        place = np.repeat(ends - 1 + before, length) - np.arange(int(length.sum()))
        return pl.DataFrame(
            {
                "tag_category_list": join_lists(self.events["cate"].gather(place), length),
                "tag_brand_list": join_lists(self.events["brand"].gather(place), length),
            }
        )

    def purchases(self, samples: pl.DataFrame) -> pl.Series:
        """1 for each clicked sample that a purchase of its category and brand followed within a day."""
        keys = ["user", "cate_id", "brand"]
        bought = self.events.filter("bought").rename({"cate": "cate_id"})
        bought = bought.select(pl.col(*keys, "time_stamp").cast(pl.Int64), "bought").sort("time_stamp")
        # The search is for the first purchase at or after a moment: that of the next second, to be strictly after.
        wanted = samples.select(*keys, pl.col("time_stamp") + 1, "clk").with_row_index("row").sort("time_stamp")
        found = wanted.join_asof(
            bought, on="time_stamp", by=keys, strategy="forward", tolerance=DAY - 1, check_sortedness=False
        )
        hit = pl.col("bought").fill_null(False) & (pl.col("clk") == 1)
        return found.sort("row").select(hit.cast(pl.Int8)).to_series()


def _write(path: Path, samples: pl.DataFrame, past: _Past, max_history: int) -> None:
    with path.open("wb") as file:
        for start in range(0, samples.height, ROWS_AT_A_TIME):
            rows = samples.slice(start, ROWS_AT_A_TIME)
            lists = past.lists(rows, max_history)
            pl.concat([rows, lists], how="horizontal").select(COLUMNS).write_csv(file, include_header=False)


def _price_bucket(column: str) -> pl.Expr:
    doublings = (pl.col(column).clip(lower_bound=0) + 1).log(2)
    return (3 * doublings).floor().clip(0, PRICE_BUCKETS - 1).fill_nan(0).fill_null(0).cast(pl.Int64).alias(column)


def _chosen(column: str, share: float, seed: int) -> pl.Expr:
    """Whether a person is kept: two rounds of a multiplicative hash, compared with the share."""
    if share == 1:
        return pl.lit(True)
    mixed = (pl.col(column).cast(pl.UInt64) + seed * 1_000_003 % 2**32) % 2**32 * 2_654_435_761 % 2**32
    mixed = (mixed ^ (mixed // 2**15)) * 2_246_822_519 % 2**32
    return mixed < int(share * 2**32)


def _moments(user: pl.Series, time: pl.Series) -> npt.NDArray[np.int64]:
    """Person and second as one number that sorts by person, then by second."""
    out: npt.NDArray[np.int64] = (user.to_numpy().astype(np.int64) << 32) + time.to_numpy()
    return out


# Reading


def _check_files(raw: Path) -> None:
    missing = [name for name in FILES if not (raw / name).is_file()]
    if missing:
        there = "no such folder"
        if raw.is_dir():
            there = ", ".join(sorted(p.name for p in raw.iterdir())[:10]) or "an empty folder"
        raise DataError(
            f"{raw} must hold {_listed(list(FILES))}. Missing: {', '.join(missing)}. Received: {there}. Download "
            f"Ali_Display_Ad_Click from {SOURCE} (free, with an account) and unpack it there."
        )


def _check_samples(samples: pl.DataFrame, path: Path) -> None:
    """Impressions need a time, an ad and an outcome; ads and people may lack anything."""
    wrong = samples.select(
        ~pl.col("time_stamp").is_between(0, 2**32 - 1).fill_null(False)
        | pl.col("adgroup_id").is_null()
        | ~pl.col("clk").is_in([0, 1]).fill_null(False)
    ).to_series()
    if wrong.any():
        raise DataError(
            f"each row of {path} must have a time_stamp (seconds since 1970), an adgroup_id and a clk of 0 or 1. "
            f"Received: {int(wrong.sum())} other rows, the first {samples.row(int(wrong.arg_max() or 0), named=True)}. "
            f"Take the file anew from {SOURCE}."
        )


def _scan(raw: Path, name: str) -> pl.LazyFrame:
    """The wanted columns of a file as numbers; `NULL` and empty cells are missing."""
    path, wanted = raw / name, FILES[name]
    with path.open("rb") as file:
        header = file.readline(10_000).decode("utf-8", errors="replace").lstrip("\ufeff").rstrip("\r\n").split(",")
    names = [column.strip() for column in header]
    absent = [column for column in wanted if column not in names]
    if absent:
        raise DataError(
            f"the first line of {path} must name the columns {_listed(list(wanted))}. Missing: {', '.join(absent)}. "
            f"Received: {', '.join(names)[:200]}. Take the file from {SOURCE} as it is."
        )
    schema = {column: wanted.get(column.strip(), pl.String()) for column in header}
    lazy = pl.scan_csv(path, schema=schema, has_header=True, null_values=["NULL", ""], quote_char=None)
    return lazy.select(pl.col(header[names.index(column)]).alias(column) for column in wanted)


def _collect(lazy: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return lazy.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path} must hold numbers as the publisher wrote them. Received: {reason}. Take the file anew from "
            f"{SOURCE}."
        ) from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]
