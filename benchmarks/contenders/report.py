"""What a contender of a benchmark tells: seconds by phase, figures, quality.

A contender is a program that does one job with one framework, in that framework's own environment, so this file needs
nothing but Python. It is started by `bench.py` as

    PYTHON CONTENDER --data FOLDER --out FILE [--threads N] [name=value ...]

and writes FILE. Times are wall times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_STARTED = time.perf_counter()


def peak() -> float:
    """Largest resident size of this process, in MiB; of its own memory, not of the process that started it."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


class Report:
    """Collects what happened and writes it.

    Attributes:
        data: Folder of the job's data.
        out: File to write; arrays that belong to it stand beside it.
        threads: Threads that the contender may use.
        options: Settings of the job, as text.
        seconds: Wall time by phase.
        figures: What else was measured, by name.
        notes: What a reader should know.
    """

    def __init__(self, package: str) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--data", type=Path, required=True)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
        parser.add_argument("options", nargs="*")
        given = parser.parse_args()
        self.data: Path = given.data
        self.out: Path = given.out
        self.threads: int = given.threads
        self.options: dict[str, str] = dict(option.split("=", 1) for option in given.options)
        self.package = package
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time inside to a phase."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def number(self, name: str) -> int:
        """A setting of the job."""
        return int(self.options[name])

    def train_until(self, train: Callable[[], object], evaluate: Callable[[], float]) -> None:
        """Passes, each followed by an evaluation, until the AUC that the job asks for or its last pass.

        Notes `prepare`, `epoch`, `epochs`, `auc`, whether it was `reached`, and if so `total`: all phases so far.
        """
        target, epochs, auc = float(self.options["target"]), 0, 0.0
        while auc < target and epochs < self.number("max_epochs"):
            with self.phase("train"):
                train()
            with self.phase("evaluate"):
                auc = evaluate()
            epochs += 1
        self.figures |= {"prepare": self.seconds["prepare"], "epoch": self.seconds["train"] / epochs}
        if auc >= target:
            self.figures["total"] = sum(self.seconds.values())
        else:
            self.notes.append(f"the AUC was not reached within {epochs} epochs")
        self.figures |= {"epochs": epochs, "auc": auc, "reached": int(auc >= target)}

    def write(self) -> None:
        """Writes the file; the last thing that a contender does."""
        self.figures["peak MiB"] = peak()
        told = {
            "version": version(self.package),
            "seconds": self.seconds,
            "total": time.perf_counter() - _STARTED,
            "figures": self.figures,
            "notes": self.notes,
        }
        self.out.write_text(json.dumps(told))
