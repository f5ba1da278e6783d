"""Measures intarsia beside its peers, job by job.

    python benchmarks/bench.py [JOB ...] [--rounds 3] [--threads 2] [--data-dir data] [--only NAME ...]

Public data sets are read from `--data-dir`; a job whose data are missing is left out and named. Peers run where their
environments are set up (`python benchmarks/peers/setup.py`), the others are left out and named too. The record of each
job is written to `--results` (default: benchmarks/results), from which `docs/generate.py` makes the tables of
docs/performance.md. Ends with status 1 where a bar is missed or a contender failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from harness import HERE, run_job, table, verdict
from jobs import JOBS


def main() -> int:
    """Runs the jobs; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each job (default 3)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of everybody (default: cores)"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the public data sets")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="contenders to run; default: all")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the records")
    given = parser.parse_args()
    unknown = sorted(set(given.jobs) - set(JOBS))
    if unknown:
        parser.error(f"no job is called {', '.join(unknown)}. Choose from: {', '.join(JOBS)}.")
    bad = False
    for name in given.jobs or JOBS:
        job = JOBS[name]
        try:
            record = run_job(job, given.data_dir, given.rounds, given.threads, given.only)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error.filename or error} is missing; see --data-dir", flush=True)
            continue
        print(f"\n{job.title}: {job.setting}\n\n{table(record)}\n")
        for bar in record["bars"]:
            print(f"- {verdict(bar)}")
            bad = bad or bar["met"] is False
        if record["missing"]:
            print(f"- not set up: {', '.join(record['missing'])} (python benchmarks/peers/setup.py)")
        bad = bad or bool(record["failed"])
        print(flush=True)
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
