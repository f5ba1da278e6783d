"""Gowalla: who checked in where, February 2009 to October 2010; and the split of it, and of Yelp, that papers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from intarsia.config.schema import LogConfig
from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import FileDownload, Together
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, wrong_folder
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.tables import Shape

_FILE = "loc-gowalla_totalCheckins.txt"
_SPLITS = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/"


def read(folder: Path) -> RawLog:
    """Check-ins (user_id, item_id, timestamp); users often come back to a place (`log.repeated`)."""
    if (path := find(folder, _FILE)) is not None:
        return RawLog(
            read_log(
                path, LOG, Shape("\t", ("user_id", "timestamp", "latitude", "longitude", "item_id"), quoting=False)
            )
        )
    if (raw := read_atomic(folder)) is not None:
        return raw
    raise wrong_folder(folder, "Gowalla", f"`{_FILE}`, or an `.inter` file.")


def split_reader(title: str) -> Callable[[Path], RawLog]:
    """A reader of `train.txt` and `test.txt` with a user and the user's items in each line."""

    def read_split(folder: Path) -> RawLog:
        from intarsia.data.interactions.formats import read_raw_log

        train, test = find(folder, "train.txt"), find(folder, "test.txt")
        if train is None or test is None:
            raise wrong_folder(folder, title, "`train.txt` and `test.txt`, lines `user item item ...`.")
        return read_raw_log(train, LogConfig(format="lines"), test=test)

    return read_split


def _split(name: str, place: str, title: str, digest: str) -> DatasetEntry:
    digests = {"train.txt": "", "test.txt": digest}
    return DatasetEntry(
        name=name,
        title=title,
        licence="No licence is stated beside the files; the log's own publisher allows research use",
        sources=(Together(tuple(FileDownload(f"{_SPLITS}{place}/{f}", d, f) for f, d in digests.items())),),
        read=split_reader(title.partition(":")[0]),
        defaults=short_form(name, {}, split="files"),
    )


ENTRIES = {
    "gowalla": DatasetEntry(
        name="gowalla",
        title="Gowalla: 6,442,892 check-ins of 107,092 users at 1,280,969 places, 2009 and 2010",
        licence="No licence is stated; its publisher asks to be cited (Stanford Network Analysis Project)",
        sources=(FileDownload(f"https://snap.stanford.edu/data/{_FILE}.gz", "", f"{_FILE}.gz"),),
        read=read,
        defaults=short_form("gowalla", {"time_field": "timestamp", "repeated": "first"}),
    ),
    "gowalla-lightgcn": _split(
        "gowalla-lightgcn",
        "gowalla",
        "Gowalla as NGCF and LightGCN divide it: 29,858 users, 40,981 places, 810,128 and 217,242 visits, no times",
        "sha256:099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
    ),
    "yelp2018-lightgcn": _split(
        "yelp2018-lightgcn",
        "yelp2018",
        "Yelp 2018 as NGCF and LightGCN divide it: 31,668 users, 38,048 businesses, 1,561,406 visits, no times",
        "",
    ),
}
