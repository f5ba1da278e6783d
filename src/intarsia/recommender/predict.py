"""Scoring whole files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from intarsia.core.errors import DataError
from intarsia.core.files import replacing
from intarsia.data.dataset import SampleDataset
from intarsia.data.loader import Loader
from intarsia.data.reading import read_table, resolve_paths
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.row_recommender import RowRecommender

WRITERS = {".csv": ",", ".tsv": "\t", ".parquet": ""}


def predict_files(
    run: str | Path, data: str, output: str | Path, *, keep: Sequence[str] = (), batch_size: int | None = None
) -> dict[str, Any]:
    """Scores the rows of files and writes one row of predictions a row.

    Args:
        run: Run folder or bundle.
        data: Files in the format of the training files; labels may be absent where the files have a header.
        output: `.csv`, `.tsv` or `.parquet`.
        keep: Input columns to copy into the output.
        batch_size: Rows scored at a time.

    Raises:
        DataError: The files or the output cannot be used.
    """
    output = Path(output)
    if output.suffix not in WRITERS:
        raise DataError(f"the output must end in {', '.join(WRITERS)}. Received: {output.name}")
    started = time.perf_counter()
    recommender = Recommender.load(run)
    if not isinstance(recommender, RowRecommender):
        raise DataError(
            f"predict scores rows, and `{recommender.config.model.model_class}` ranks a catalogue. Use `intarsia "
            "recommend`, or `Recommender.score` on pairs of users and items."
        )
    config = recommender.config.data_config
    read = read_table(resolve_paths(data), config, columns=[*recommender.encoder.input_columns, *keep])
    columns = recommender.encoder.transform(read.frame)
    dataset = SampleDataset(recommender.schema, columns, num_rows=read.frame.height)
    found = recommender.predict(Loader(dataset, batch_size or config.eval_batch_size).epoch(0))
    frame = pl.concat([read.frame.select(list(keep)), found], how="horizontal") if keep else found
    with replacing(output) as aside:
        if output.suffix == ".parquet":
            frame.write_parquet(aside)
        else:
            frame.write_csv(aside, separator=WRITERS[output.suffix])
    return {
        "rows": frame.height,
        "skipped": read.skipped,
        "columns": frame.columns,
        "output": str(output),
        "seconds": time.perf_counter() - started,
    }
