"""Trains on a Parquet file that is three times as large as the memory of the training process.

    python benchmarks/streaming.py [--headroom MB] [--folder DIR] [--json FILE]

What happens:

1. A process trains on a hundred rows, which loads all libraries, and tells how much memory it holds: the base.
2. The limit is the base and `--headroom` megabytes. A file of three limits is written: 13 columns of text ids, 13 of
   integer ids, 13 of numbers, not compressed and without dictionaries, so that its size is what it holds.
3. A process with that limit trains one pass over the file. Whether to stream is left to it (`streaming` is not set).
4. A process with the same limit is told not to stream, and must fail.

The limit is RLIMIT_DATA, set before the process starts. It bounds everything that can be written and belongs to the
process alone: heap, anonymous maps, stacks of threads. That is what grows with data. RLIMIT_AS would be too strict, as
it counts the mapped code of the libraries as well (about 1 GB of addresses, most of which is never read), and a limit
on the resident set (RLIMIT_RSS) is not enforced by Linux. Arrow uses the system's allocator here: its usual one
reserves a gigabyte at once, which would count as taken though it is not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MB = 1_000_000
TEXTS = [f"t{k}" for k in range(13)]
INTEGERS = [f"i{k}" for k in range(13)]
NUMBERS = [f"n{k}" for k in range(13)]
ROWS_OF_A_GROUP = 25_000
BATCH_SIZE = 4096


def pipeline(path: Path, run_dir: Path, streaming: bool | None) -> dict[str, object]:
    """A small DeepFM over all columns: the data are the load, not the model."""
    features: list[dict[str, object]] = []
    features += [{"input_names": [name], "hash_bucket_size": 10_000, "embedding_dim": 4} for name in TEXTS]
    features += [{"input_names": [name], "num_buckets": 1_000_000, "embedding_dim": 4} for name in INTEGERS[:1]]
    features += [{"input_names": [name], "hash_bucket_size": 10_000, "embedding_dim": 4} for name in INTEGERS[1:]]
    features += [{"input_names": [name], "feature_type": "RawFeature", "embedding_dim": 4} for name in NUMBERS]
    names = [*TEXTS, *INTEGERS, *NUMBERS]
    data: dict[str, object] = {
        "input_type": "ParquetInput",
        "label_fields": ["label"],
        "batch_size": BATCH_SIZE,
        "use_cache": False,
    }
    if streaming is not None:
        data["streaming"] = streaming
    return {
        "train_input_path": str(path),
        "model_dir": str(run_dir),
        "data_config": data,
        "feature_config": {"features": features},
        "model_config": {
            "model_class": "DeepFM",
            "feature_groups": [
                {"group_name": "wide", "feature_names": names, "wide_deep": "WIDE"},
                {"group_name": "deep", "feature_names": names},
            ],
            "deepfm": {"dnn": {"hidden_units": [16]}},
        },
        "train_config": {"num_epochs": 1, "optimizer": "adagrad", "save_checkpoints_steps": 0, "device": "cpu"},
    }


def write_file(path: Path, num_bytes: int, rows_of_a_group: int = ROWS_OF_A_GROUP) -> int:
    """Writes row groups until the file is large enough; gives the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    names = ["label", *TEXTS, *INTEGERS, *NUMBERS]
    words = pa.array([f"{k:08x}" for k in draw.permutation(200_000)])
    rows = 0
    writer = None
    try:
        while writer is None or path.stat().st_size < num_bytes:
            columns = [pa.array(draw.integers(0, 2, rows_of_a_group).astype(np.float32))]
            columns += [words.take(pa.array(draw.integers(0, len(words), rows_of_a_group))) for _ in TEXTS]
            columns += [pa.array(draw.integers(0, 1_000_000, rows_of_a_group)) for _ in INTEGERS]
            columns += [pa.array(draw.normal(size=rows_of_a_group)) for _ in NUMBERS]
            table = pa.table(columns, names=names)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False)
            writer.write_table(table, row_group_size=rows_of_a_group)
            rows += rows_of_a_group
    finally:
        if writer is not None:
            writer.close()
    return rows


def train(path: Path, folder: Path, streaming: bool | None) -> None:
    """The process that trains: prints what it measured as the last line, in JSON."""
    from intarsia.data.memory import available_memory
    from intarsia.recommender.fit import run
    from intarsia.recommender.pipeline import pipeline_from

    said = _Said()
    log = logging.getLogger("intarsia")
    log.addHandler(said)
    log.setLevel(logging.INFO)
    free = available_memory()
    start = time.perf_counter()
    fitted = run(pipeline_from(pipeline(path, folder, streaming)), overwrite=True)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "streamed": any("streamed by row groups" in text for text in said.texts),
        "available_bytes": free,
        "steps": fitted.result.steps,
        "seconds": round(seconds, 2),
        "peak_resident_bytes": usage.ru_maxrss * 1024,
        "data_bytes_at_end": data_bytes(),
    }
    print(json.dumps(told))


class _Said(logging.Handler):
    """Remembers what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes in one message."""
        self.texts.append(record.getMessage())


def data_bytes() -> int:
    """Bytes that RLIMIT_DATA counts."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def child(path: Path, folder: Path, streaming: bool | None, limit: int | None) -> subprocess.CompletedProcess[str]:
    """Runs `train` in a process, with a limit that holds from its first instruction on."""
    word = {None: "auto", True: "yes", False: "no"}[streaming]
    command = [sys.executable, __file__, "--train", str(path), str(folder), word]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1", **os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )


def result_of(process: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """What a process measured; its own words where it failed."""
    if process.returncode:
        sys.exit(f"training failed ({process.returncode}):\n{process.stderr[-2000:]}")
    return dict(json.loads(process.stdout.splitlines()[-1]))


def measure(folder: Path, headroom: int) -> dict[str, object]:
    """All steps of the module's text."""
    small = folder / "small.parquet"
    write_file(small, 1, rows_of_a_group=100)
    base = int(str(result_of(child(small, folder / "small", True, None))["data_bytes_at_end"]))
    limit = base + headroom
    path = folder / "large.parquet"
    rows = write_file(path, 3 * limit)
    size = path.stat().st_size
    streamed = result_of(child(path, folder / "streamed", None, limit))
    in_memory = child(path, folder / "in_memory", False, limit)
    return {
        "rows": rows,
        "columns": 39,
        "file_bytes": size,
        "base_bytes": base,
        "limit_bytes": limit,
        "file_over_limit": round(size / limit, 2),
        **streamed,
        "rows_per_second": round(rows / float(str(streamed["seconds"]))),
        "in_memory_exit_code": in_memory.returncode,
        "in_memory_says": " ".join(in_memory.stderr.split())[-200:],
    }


def main() -> None:
    """Reads the options, prints the table, checks what is promised."""
    if sys.argv[1:2] == ["--train"]:
        path, folder, word = sys.argv[2:5]
        train(Path(path), Path(folder), {"auto": None, "yes": True, "no": False}[word])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headroom", type=int, default=300, help="megabytes above what the libraries hold")
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.headroom * MB)
    for name in ("file_bytes", "base_bytes", "limit_bytes", "available_bytes", "peak_resident_bytes"):
        print(f"{name.removesuffix('_bytes').replace('_', ' '):<28}{int(str(found[name])) / MB:>12,.0f} MB")
    for name in ("file_over_limit", "rows", "columns", "streamed", "steps", "seconds", "rows_per_second"):
        value = found[name]
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        print(f"{name.replace('_', ' '):<28}{shown:>12}")
    print(f"told not to stream: exit code {found['in_memory_exit_code']}, {found['in_memory_says']}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if not found["streamed"] or not found["in_memory_exit_code"]:
        sys.exit("FAILED: the file should have been streamed, and should not have fitted into memory")


if __name__ == "__main__":
    main()
