"""`recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from intarsia.cli.output import Json


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(recommend)


def recommend(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    user: Annotated[
        list[str] | None, typer.Option("--user", "-u", help="Raw id of a known user; may be repeated.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", help="Comma-separated raw item ids, oldest first, of somebody new; may be repeated."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Items for each.")] = 10,
    candidates: Annotated[str, typer.Option(help="Comma-separated raw ids of the only items to choose from.")] = "",
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Recommend items of the history too.")] = False,
    on_unknown: Annotated[
        Literal["error", "warn", "ignore"], typer.Option(help="What to do about unknown ids.")
    ] = "error",
    exact: Annotated[bool, typer.Option("--exact", help="Score all items although there is an index.")] = False,
    diversity: Annotated[
        float, typer.Option(help="Weight of the differences between the items of a list, on the scale of the scores.")
    ] = 0.0,
    category: Annotated[
        str | None, typer.Option(help="Column of the item table that tells how items differ, such as genres.")
    ] = None,
    json: Json = False,
) -> None:
    """Recommend items for known users, or for the history of somebody new."""
    if bool(user) == bool(history):
        received = "both" if user else "none of them"
        raise typer.BadParameter(f"give either --user or --history, as often as you like. Received: {received}.")
    from intarsia.cli.output import print_json, table
    from intarsia.recommender.recommender import Recommender
    from intarsia.recommender.retrieval import RetrievalRecommender

    recommender = Recommender.load(run)
    more: dict[str, Any] = {}
    if isinstance(recommender, RetrievalRecommender):
        more = {"exact": exact, "diversity": diversity, "category": category}
    elif diversity or category or exact:
        from intarsia.core.errors import DataError

        raise DataError(
            "--exact, --diversity and --category are of models that rank a catalogue. Received: a run of another "
            "kind. Leave them out, or name the run of a retriever."
        )
    found = recommender.recommend(
        users=user or None,
        history=[_ids(one) for one in history] if history else None,
        k=k,
        filter_seen=not keep_seen,
        candidates=_ids(candidates) or None,
        on_unknown=on_unknown,
        **more,
    )
    if json:
        print_json(found.to_dicts())
        return
    rows = [[f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row] for row in found.rows()]
    table("", found.columns, rows, right=["rank", "score"])


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
