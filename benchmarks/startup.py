"""Measures how long one waits: for the import, for the help, for the first training step.

    python benchmarks/startup.py [--runs N] [--json FILE]

Every figure is the median of the runs of new processes, in wall time from start to end, after one run that fills the
disk's cache. The first step is timed from the start of the process to the moment after the first update, on a CSV file
of a thousand rows.

Fails where torch is imported by `import intarsia` or `intarsia --help`, or where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

BARS = {"import intarsia": 0.3, "intarsia --help": 0.5}
HEAVY = ("torch", "polars", "pyarrow", "numpy", "pydantic", "scipy", "yaml", "faiss", "rich")
HELP = "import sys; sys.argv[1:] = ['--help']; from intarsia.cli.main import run; run()"

FIRST_STEP = """
import sys, time
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import load_pipeline
from intarsia.training.recorder import Recorder

imported = time.time()
updated = Recorder.updated

def first(self, step):
    if step == 1:
        print(imported, time.time())
    updated(self, step)

Recorder.updated = first
run(load_pipeline(sys.argv[1]), run_dir=sys.argv[2], overwrite=True)
"""


def seconds(command: Sequence[str], runs: int) -> list[float]:
    """Wall times of a command, the first run left out."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def heavy_modules(code: str) -> list[str]:
    """Which of the large libraries a piece of code imports."""
    tail = f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + tail], check=True, capture_output=True, text=True)
    return list(json.loads(done.stderr.strip().splitlines()[-1].replace("'", '"')))


def import_times(code: str, count: int = 8) -> list[tuple[str, float]]:
    """Modules and packages that cost most, in seconds, each with what it imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    found: dict[str, float] = {}
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[1].strip().isdigit():
            found.setdefault(parts[2].strip(), int(parts[1]) / 1e6)
    return sorted(found.items(), key=lambda pair: -pair[1])[:count]


def first_step(runs: int, folder: Path) -> dict[str, list[float]]:
    """Seconds from the start of a process to its first update, and how many of them imports took."""
    draw = np.random.default_rng(0)
    lines = ["label,user,item"]
    lines += [f"{u % 2},u{u},{i}" for u, i in zip(draw.integers(0, 50, 1000), draw.integers(0, 99, 1000), strict=True)]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    config = {
        "train_input_path": str(folder / "train.csv"),
        "data_config": {"with_header": True, "label_fields": ["label"], "batch_size": 64, "use_cache": False},
        "feature_config": {
            "features": [
                {"input_names": ["user"], "vocab": "auto", "embedding_dim": 8},
                {"input_names": ["item"], "num_buckets": 99, "embedding_dim": 8},
            ]
        },
        "model_config": {
            "model_class": "DeepFM",
            "feature_groups": [
                {"group_name": "wide", "feature_names": ["user", "item"], "wide_deep": "WIDE"},
                {"group_name": "deep", "feature_names": ["user", "item"]},
            ],
            "deepfm": {"dnn": {"hidden_units": [16]}},
        },
        "train_config": {"num_steps": 1, "optimizer": "adam", "device": "cpu"},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(config))
    told: dict[str, list[float]] = {"first step": [], "of it imports": []}
    for number in range(runs + 1):
        start = time.time()
        command = [sys.executable, "-c", FIRST_STEP, str(path), str(folder / "run")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        imported, stepped = map(float, done.stdout.split()[:2])
        if number:
            told["first step"].append(stepped - start)
            told["of it imports"].append(imported - start)
    return told


def main() -> None:
    """Reads the options, prints the tables, checks the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="runs of each measurement, at least 7 (default: 9)")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    runs = max(options.runs, 7)
    times = {
        "python, nothing else": seconds([sys.executable, "-c", ""], runs),
        "import intarsia": seconds([sys.executable, "-c", "import intarsia"], runs),
        "intarsia --help": seconds([sys.executable, "-m", "intarsia", "--help"], runs),
        "import torch": seconds([sys.executable, "-c", "import torch"], runs),
    }
    with tempfile.TemporaryDirectory() as folder:
        times |= first_step(runs, Path(folder))
    problems = []
    print(f"{'':<24}{'median':>9}{'best':>9}{'worst':>9}{'bar':>8}")
    for name, values in times.items():
        middle, bar = statistics.median(values), BARS.get(name)
        print(f"{name:<24}{middle:>8.3f}s{min(values):>8.3f}s{max(values):>8.3f}s{'' if bar is None else f'{bar:>7}s'}")
        if bar is not None and middle >= bar:
            problems.append(f"{name} takes {middle:.3f} s; the bar is {bar} s")
    modules = {"import intarsia": heavy_modules("import intarsia"), "intarsia --help": heavy_modules(HELP)}
    for name, found in modules.items():
        print(f"{name} imports of the large libraries: {', '.join(found) or 'none'}")
        if "torch" in found:
            problems.append(f"{name} imports torch")
    heaviest = import_times(HELP)
    print("heaviest imports of --help, each with what it imports:")
    for name, value in heaviest:
        print(f"  {name:<40}{value:>8.3f}s")
    if options.json:
        load = os.getloadavg()[0]
        figures = {"seconds": times, "modules": modules, "imports": heaviest, "load": load, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if problems:
        sys.exit("FAILED: " + "; ".join(problems))


if __name__ == "__main__":
    main()
