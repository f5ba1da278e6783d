"""Jobs, their contenders, and running them in turn.

Every contender runs in a process of its own, one at a time; rounds go through all of them before the next begins, so
that a busy moment of the machine hits everybody, and ratios are taken within a round. Peak memory is the largest
resident size of the contender's own process.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = "intarsia"


@dataclass(frozen=True)
class Contender:
    """One framework that does a job.

    Attributes:
        name: What tables call it.
        program: Its file in `contenders/`.
        peer: The environment in `.peers/` that it runs in; empty: this one.
        options: Settings beside those of the job.
        rounds: Rounds that it takes part in, for those that take minutes; 0: all.
    """

    name: str
    program: str
    peer: str = ""
    options: Mapping[str, str | int] = field(default_factory=dict)
    rounds: int = 0

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(HERE / ".peers" / self.peer / "bin" / "python") if self.peer else sys.executable

    @property
    def ready(self) -> bool:
        """Whether its environment is there."""
        return Path(self.python).exists()


@dataclass(frozen=True)
class Bar:
    """What intarsia has to reach in a job.

    Attributes:
        figure: Name of the figure.
        least: How many times better than the best of the peers; None where the bar is a limit.
        limit: Largest value allowed (smallest, where more is better); None where the bar is a ratio.
        against: Names of the contenders to compare with; empty: all peers.
        more: Whether more is better.
    """

    figure: str
    least: float | None = None
    limit: float | None = None
    against: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class Job:
    """Something that recommender frameworks do.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables.
        setting: In a line, what exactly is done.
        contenders: Who does it, intarsia first.
        show: Figures in the table, with their units.
        bars: What intarsia has to reach.
        prepare: Makes the data; gets the folder of the public data sets and the one to write into. A
            `FileNotFoundError` says which data set is missing.
        judge: Adds figures that are measured alike for everybody, from the arrays beside a contender's file.
        options: Settings that all contenders get.
    """

    name: str
    title: str
    setting: str
    contenders: Sequence[Contender]
    show: Mapping[str, str]
    bars: Sequence[Bar]
    prepare: Callable[[Path, Path], None]
    judge: Callable[[Path, Path], dict[str, float]] | None = None
    options: Mapping[str, str | int] = field(default_factory=dict)


class Failed(Exception):
    """A contender ended with an error; the text is the end of what it printed."""


def run_once(job: Job, contender: Contender, data: Path, threads: int) -> dict[str, Any]:
    """Runs a contender in a process of its own and gives what it told.

    Raises:
        Failed: It did not end well.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "told.json"
        options = {**job.options, **contender.options}
        command = [contender.python, str(HERE / "contenders" / contender.program), "--data", str(data.resolve())]
        command += [
            "--out",
            str(out),
            "--threads",
            str(threads),
            *(f"{name}={value}" for name, value in options.items()),
        ]
        names = (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "POLARS_MAX_THREADS",
            "RAYON_NUM_THREADS",
        )
        environment = {
            **os.environ,
            **dict.fromkeys(names, str(threads)),
            "PYTHONPATH": str(HERE / "contenders"),
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # RecBole reads back its own checkpoints, which are pickles
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        with tempfile.TemporaryFile() as printed:
            done = subprocess.run(command, cwd=scratch, env=environment, stdout=printed, stderr=printed)
            if done.returncode or not out.exists():
                printed.seek(0)
                raise Failed(printed.read().decode(errors="replace")[-3000:] or f"ended with {done.returncode}")
        told: dict[str, Any] = json.loads(out.read_text())
        if job.judge is not None:
            told["figures"] |= job.judge(Path(scratch), data)
    return told


def run_job(job: Job, data_dir: Path, rounds: int, threads: int, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs all contenders that are ready in turn and gives the record of the job."""
    contenders = [c for c in job.contenders if c.ready and (not only or c.name in only)]
    told: dict[str, list[dict[str, Any]]] = {c.name: [] for c in contenders}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        job.prepare(data_dir, Path(folder))
        for number in range(rounds):
            for contender in contenders:
                if contender.name in failed or (contender.rounds and number >= contender.rounds):
                    continue
                try:
                    found = run_once(job, contender, Path(folder), threads)
                except Failed as error:
                    failed[contender.name] = str(error)
                    print(f"{job.name}: {contender.name} failed:\n{error}", file=sys.stderr, flush=True)
                    continue
                told[contender.name].append(found)
                shown = ", ".join(
                    f"{name} {found['figures'][name]:.4g}" for name in job.show if name in found["figures"]
                )
                print(f"{job.name}, round {number + 1}: {contender.name}: {shown}", flush=True)
    told = {name: runs for name, runs in told.items() if runs}
    return {
        "job": job.name,
        "title": job.title,
        "setting": job.setting,
        "command": f"python benchmarks/bench.py {job.name} --rounds {rounds} --threads {threads}",
        "machine": machine(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "show": dict(job.show),
        "contenders": {name: _summary(runs) for name, runs in told.items()},
        "missing": [c.name for c in job.contenders if not c.ready],
        "failed": sorted(failed),
        "bars": [asdict(bar) | judged(bar, told) for bar in job.bars],
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures = {name for run in runs for name in run["figures"]}
    return {
        "version": runs[0]["version"],
        "rounds": len(runs),
        "figures": {name: [run["figures"].get(name) for run in runs] for name in sorted(figures)},
        "seconds": {name: [run["seconds"].get(name) for run in runs] for name in runs[0]["seconds"]},
        "total": [run["total"] for run in runs],
        "notes": runs[0]["notes"],
    }


def judged(bar: Bar, told: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """What was reached: `value`, its spread, the peer that it was measured against, and whether that is enough."""
    ours = [run["figures"].get(bar.figure) for run in told.get(OURS, [])]
    own = [value for value in ours if value is not None]
    nothing = {"value": None, "low": None, "high": None, "peer": None, "met": None}
    if not own:
        return nothing
    if bar.limit is not None:
        value = statistics.median(own)
        met = value >= bar.limit if bar.more else value <= bar.limit
        return {"value": value, "low": min(own), "high": max(own), "peer": None, "met": met}
    best: tuple[float, list[float], str] | None = None
    for name, runs in told.items():
        if name == OURS or (bar.against and name not in bar.against):
            continue
        pairs = [(a, run["figures"].get(bar.figure)) for a, run in zip(own, runs, strict=False)]
        ratios = [a / b if bar.more else b / a for a, b in pairs if b]
        if ratios and (best is None or statistics.median(ratios) < best[0]):
            best = statistics.median(ratios), ratios, name
    if best is None:
        return nothing
    value, ratios, peer = best
    assert bar.least is not None
    return {"value": value, "low": min(ratios), "high": max(ratios), "peer": peer, "met": value >= bar.least}


def machine() -> str:
    """The processor, in words."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def table(record: Mapping[str, Any]) -> str:
    """A record as a table in Markdown: medians over the rounds, one row a contender."""
    shown = list(record["show"].items())
    head = "| " + " | ".join(["", *(f"{name}{f' ({unit})' if unit else ''}" for name, unit in shown)]) + " |"
    lines = [head, "|---" * (len(shown) + 1) + "|"]
    for name, told in record["contenders"].items():
        cells = []
        for figure, _ in shown:
            values = [value for value in told["figures"].get(figure, []) if value is not None]
            cells.append(number(statistics.median(values)) if values else "-")
        label = name if name == OURS else f"{name} {told['version']}"
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """A figure with three or four digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 0.5 else f"{value:.3g}"


def verdict(bar: Mapping[str, Any]) -> str:
    """A bar and what was reached, in a line."""
    wanted = f"{bar['figure']} "
    if bar["limit"] is not None:
        wanted += f"{'at least' if bar['more'] else 'at most'} {number(bar['limit'])}"
    else:
        wanted += f"{number(bar['least'])} times better than {' and '.join(bar['against']) or 'every peer'}"
    if bar["value"] is None:
        return f"{wanted}: not measured"
    spread = f"{number(bar['value'])} ({number(bar['low'])} to {number(bar['high'])})"
    whom = f" against {bar['peer']}" if bar["peer"] and len(bar["against"]) != 1 else ""
    return f"{wanted}: {'met' if bar['met'] else 'MISSED'}, {spread}{whom}"
