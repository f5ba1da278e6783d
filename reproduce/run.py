"""Trains a pipeline file as `intarsia train` does and notes what came out, for the table of `collect.py`.

    python reproduce/run.py PIPELINE [--seed N] [--results FOLDER]

Run it where the data lie (`data/...`). Time is that of the whole command; memory is its largest resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Trains, then writes FOLDER/NAME_seedN.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    name = f"{given.pipeline.stem}_seed{given.seed}"
    folder = Path("runs") / name
    command = [sys.executable, "-m", "intarsia", "train", str(given.pipeline), f"train_config.seed={given.seed}"]
    start = time.perf_counter()
    subprocess.run([*command, "--run-dir", str(folder), "--overwrite"], check=True)
    seconds = time.perf_counter() - start
    found = json.loads((folder / "result.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB; bytes on macOS
    note = {
        "pipeline": given.pipeline.stem,
        "seed": given.seed,
        "metrics": found["metrics"],
        "epochs": found["epochs"],
        "steps": found["steps"],
        "best_step": found["best_step"],
        "seconds": round(seconds, 1),
        "peak_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count(),
    }
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / f"{name}.json").write_text(json.dumps(note, indent=2) + "\n")


if __name__ == "__main__":
    main()
