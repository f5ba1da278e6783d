"""The jobs, in the order of docs/performance.md."""

from __future__ import annotations

from harness import Job

from jobs import click, ease, factors, frappe, loading, sequences, serving, startup

JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        *click.JOBS,
        *frappe.JOBS,
        *sequences.JOBS,
        *factors.JOBS,
        *ease.JOBS,
        *loading.JOBS,
        *serving.JOBS,
        *startup.JOBS,
    )
}
