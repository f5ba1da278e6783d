"""The jobs, in the order of docs/performance.md."""

from __future__ import annotations

from harness import Job
from jobs import click, ease, factors, sequences

JOBS: dict[str, Job] = {job.name: job for job in (*click.JOBS, *sequences.JOBS, *factors.JOBS, *ease.JOBS)}
