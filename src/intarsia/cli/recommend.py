"""`recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(recommend)


def recommend(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="Raw id of a known user; may be repeated.")] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="Comma-separated raw item ids, oldest first, of somebody new; may be repeated.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Items for each.")] = 10,
    candidates: Annotated[str, typer.Option(help="Comma-separated raw ids of the only items to choose from.")] = "",
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Recommend items of the history too.")] = False,
    on_unknown: Annotated[Literal["error", "warn", "ignore"], typer.Option(help="What to do about unknown ids.")] = "error",
    json: Json = False,
) -> None:
    """Recommend items for known users, or for the history of somebody new."""
    from intarsia.cli.output import print_json, table
    from intarsia.core.errors import DataError
    from intarsia.recommender.recommender import Recommender

    if bool(user) == bool(history):
        raise DataError("give either --user or --history, as often as you like")
    recommender = Recommender.load(run)
    found = recommender.recommend(
        users=user or None,
        history=[[i for i in one.split(",") if i] for one in history] if history else None,
        k=k,
        filter_seen=not keep_seen,
        candidates=[c for c in candidates.split(",") if c] or None,
        on_unknown=on_unknown,
    )
    if json:
        print_json(found.to_dicts())
        return
    rows = [[f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row] for row in found.rows()]
    table("", found.columns, rows, right=["rank", "score"])
