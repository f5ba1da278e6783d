"""Yoochoose: clicks of sessions in a shop, April to September 2014 (RecSys Challenge 2015)."""

from __future__ import annotations

from pathlib import Path

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ByHand, SevenZipDownload
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, wrong_folder
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.tables import Shape

_FILE = "yoochoose-clicks.dat"


def read(folder: Path) -> RawLog:
    """Clicks (user_id: the session, item_id, timestamp). The clicks of the challenge's test part are not read."""
    if (path := find(folder, _FILE)) is not None:
        return RawLog(read_log(path, LOG, Shape(",", ("user_id", "timestamp", "item_id", "category"))))
    if (raw := read_atomic(folder)) is not None:
        return raw
    raise wrong_folder(folder, "Yoochoose", f"`{_FILE}`, or an `.inter` file.")


ENTRIES = {
    "yoochoose": DatasetEntry(
        name="yoochoose",
        title="Yoochoose: 33,003,944 clicks of 9,249,729 sessions on 52,739 items, 2014",
        licence="CC BY-NC-ND 4.0 (YooChoose, RecSys Challenge 2015)",
        sources=(
            SevenZipDownload("https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z", "", {_FILE: _FILE}),
            ByHand(
                "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
                (_FILE,),
                "Kaggle gives the files to those who are logged in",
            ),
        ),
        read=read,
        defaults=short_form("yoochoose", {"time_field": "timestamp"}),
    )
}
