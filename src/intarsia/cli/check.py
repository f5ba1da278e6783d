"""`check`: is the file right, and do the data fit it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.output import Json
from intarsia.cli.pipeline import Data, Overrides, Sets, load_any, tell_notices

if TYPE_CHECKING:
    from intarsia.cli.checkup import Report


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(check)


def check(
    pipeline: Annotated[str, typer.Argument(help="Pipeline file, run folder, or name of a model (with --data).")],
    overrides: Overrides = None,
    data: Data = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Check a pipeline file, then look at its data: rows, ids, lengths, ranges, labels, overlaps, and what to change.

    Exit code: 0 nothing wrong (there may be warnings), 2 the file is wrong, 3 the data are.
    """
    loaded = load_any(pipeline, [*(overrides or []), *(sets or [])], data)
    from intarsia.cli.checkup import check_up
    from intarsia.cli.output import print_json

    report = check_up(loaded)
    if json:
        counts = {level: sum(f.level == level for f in report.findings) for level in ("error", "warning", "note")}
        print_json({**report.to_json(), "counts": counts, "notices": loaded.notices, "exit_code": report.exit_code})
    else:
        tell_notices(loaded)
        _tell(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _tell(report: Report) -> None:
    from intarsia.cli.output import percent, say, table

    say("rows: " + ", ".join(f"{part} {count:,}" for part, count in report.rows.items()))
    for part, label in report.labels.items():
        counts = "" if not label["counts"] else "; " + ", ".join(f"{v}: {c:,}" for v, c in label["counts"].items())
        say(f"label in {part}: mean {label['mean']:.4g}, from {label['minimum']:g} to {label['maximum']:g}{counts}")
    if report.weights is not None:
        weights = report.weights
        say(f"weights: mean {weights['mean']:.4g}, from {weights['minimum']:g} to {weights['maximum']:g}")
    repeats = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.overlap.items())
    say(f"repeated rows: {repeats}")
    say()
    rows = [
        [c["name"], c["type"], c["missing"], percent(c["missing"] / max(report.rows["train"], 1)), c["distinct"]]
        for c in report.columns
    ]
    table("columns of the training part", ["column", "type", "missing", "share", "distinct"], rows, right=_NUMBERS)
    say()
    parts = [part for part in report.rows if part != "train"]
    columns = ["feature", "type", "empty", "ids", "rows", "collide", *(f"unseen in {part}" for part in parts), "values"]
    rows = [
        [
            f["name"],
            f["type"],
            _share(f, "missing_share"),
            f.get("distinct"),
            f.get("table_rows"),
            _share(f, "collisions" if "collisions" in f else "expected_collisions"),
            *(_share(f, f"unseen_{part}") for part in parts),
            _values(f),
        ]
        for f in report.features
    ]
    table("features", columns, rows, right=[*_NUMBERS, *columns[2:-1]])
    say()
    for finding in report.findings:
        say(f"{finding.level}: {finding.message}", style=_STYLES[finding.level])
    errors = sum(finding.level == "error" for finding in report.findings)
    warnings = sum(finding.level == "warning" for finding in report.findings)
    say(f"{errors} errors, {warnings} warnings")


_NUMBERS = ["missing", "share", "distinct"]
_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


def _share(feature: dict[str, Any], key: str) -> str | None:
    from intarsia.cli.output import percent

    return percent(feature[key]) if key in feature else None


def _values(feature: dict[str, Any]) -> str:
    if "lengths" in feature:
        low, _, middle, _, high, most = feature["lengths"]["quantiles"]
        return f"lengths {low:g} to {most:g}, median {middle:g}, 95% up to {high:g}"
    if "numbers" in feature:
        found = feature["numbers"]
        used = f", {feature['buckets_used']} buckets used" if "buckets_used" in feature else ""
        return f"{found['minimum']:.5g} to {found['maximum']:.5g}, mean {found['mean']:.4g}{used}"
    if feature.get("distinct"):
        from intarsia.cli.output import percent

        return f"most common {percent(feature['most_common_share'])}"
    return ""
