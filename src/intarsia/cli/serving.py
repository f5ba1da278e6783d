"""`index`, `vectors`, `diversity`: what serves a model that ranks a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from intarsia.cli.output import Json

if TYPE_CHECKING:
    from intarsia.recommender.retrieval import RetrievalRecommender
    from intarsia.retrieval.diversity_curve import DiversityCurve
    from intarsia.retrieval.index import Index

Run = Annotated[Path, typer.Argument(help="Run folder or bundle.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(index)
    app.command()(vectors)
    app.command()(diversity)


def index(
    run: Run,
    kind: Annotated[
        Literal["flat", "faiss_flat", "ivf", "hnsw", "pq", "ivf_pq"], typer.Option(help="Kind of index.")
    ] = "hnsw",
    nlist: Annotated[int | None, typer.Option(help="ivf: number of lists.")] = None,
    nprobe: Annotated[int | None, typer.Option(help="ivf: lists that a query searches.")] = None,
    m: Annotated[int | None, typer.Option("-m", help="hnsw: neighbours that an item is linked to.")] = None,
    ef_search: Annotated[int | None, typer.Option(help="hnsw: items at hand while a query walks.")] = None,
    pq_m: Annotated[int | None, typer.Option(help="pq: parts that a vector is cut into.")] = None,
    bits: Annotated[int | None, typer.Option(help="pq: bits of a part.")] = None,
    queries: Annotated[int | None, typer.Option(help="Queries that recall and time are measured with.")] = None,
    json: Json = False,
) -> None:
    """Build the index that `recommend` searches, in the place of the run's own; nothing is trained."""
    from intarsia.cli.output import print_json
    from intarsia.recommender.item_index import check_config, replace_index, size_of, told

    given = {"nlist": nlist, "nprobe": nprobe, "m": m, "ef_search": ef_search, "pq_m": pq_m, "bits": bits}
    given |= {"measure_queries": queries}
    config = check_config({"kind": kind, **{name: value for name, value in given.items() if value is not None}})
    found = replace_index(_load(run, "index"), config)
    if json:
        print_json({**told(found), "bytes": size_of(run)})
        return
    _tell_index(found, size_of(run))


def _tell_index(found: Index, bytes_: int) -> None:
    from intarsia.cli.output import say, size, table

    say(f"{found.config.kind}: {found.num_items:,} items of width {found.dim}, {size(bytes_)}")
    say(f"built in {found.build_seconds:.2f} s")
    measured = found.measured
    if measured is None:
        exact = found.config.kind in ("flat", "faiss_flat")
        say("it finds what exact search finds" if exact else "its recall was not measured")
        return
    rows: list[tuple[str, str]] = [(f"recall@{k}", f"{value:.4f}") for k, value in measured.recall.items()]
    rows.append(("ms a query", f"{measured.ms_per_query:.3f}"))
    rows.append(("ms a query, exact search", f"{measured.exact_ms_per_query:.3f}"))
    of = "known users" if measured.of == "queries" else "items, with noise"
    say(f"measured with {measured.queries:,} queries of {of}")
    table("", ["measure", "value"], rows, right=["value"])


def vectors(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for vectors.npz, or a file that ends in .npz.")],
    json: Json = False,
) -> None:
    """Write the vectors of users and items with their raw ids, for other systems."""
    from intarsia.cli.output import print_json, say, size

    path = out if out.suffix == ".npz" else out / "vectors.npz"
    users, items = _load(run, "vectors").save_vectors(path)
    written = path.stat().st_size
    if json:
        print_json({"path": str(path), "users": users, "items": items, "bytes": written})
        return
    say(f"{path}: {users:,} users, {items:,} items, {size(written)}")


def diversity(
    run: Run,
    category: Annotated[
        str | None, typer.Option(help="Column of the item table. Default: eval_config.category.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Items of a list.")] = 20,
    weights: Annotated[
        str, typer.Option(help="Comma-separated weights of the differences. Default: on the scale of the scores.")
    ] = "",
    part: Annotated[Literal["test", "valid"], typer.Option(help="Part of the data to measure.")] = "test",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the curve: a file that ends in .svg, .png or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure what diverse lists cost: accuracy against diversity as the weight of the differences grows."""
    from intarsia.cli.output import print_json
    from intarsia.core.pictures import check_ending
    from intarsia.recommender.diversify import measure_diversity
    from intarsia.retrieval.diversity_curve import CURE, plot_diversity

    if plot is not None:
        check_ending(plot, CURE)
    recommender = _load(run, "diversity")
    chosen = _numbers(weights) if weights else None
    curve = measure_diversity(recommender, category, k=k, weights=chosen, part=part)
    if plot is not None:
        name = category or recommender.config.eval_config.category
        plot_diversity(curve, plot, title=f"{recommender.config.model.model_class}, differences of {name}")
    if json:
        print_json({**_as_json(curve), "part": part, "plot": None if plot is None else str(plot)})
        return
    _tell_curve(curve, part, plot)


def _numbers(text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise typer.BadParameter(f"--weights are numbers with commas between. Received: {text}.") from None


def _as_json(curve: DiversityCurve) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(curve), "best": asdict(curve.best())}


def _tell_curve(curve: DiversityCurve, part: str, plot: Path | None) -> None:
    from intarsia.cli.output import say, table

    k, first = curve.k, curve.points[0]
    names = ["weight", f"diversity@{k}", "change", f"recall@{k}", "change", f"ndcg@{k}", f"hit_rate@{k}"]
    rows = [
        [
            f"{point.weight:g}",
            f"{point.diversity:.4f}",
            _change(point.diversity, first.diversity),
            f"{point.recall:.5f}",
            _change(point.recall, first.recall),
            f"{point.ndcg:.5f}",
            f"{point.hit_rate:.5f}",
        ]
        for point in curve.points
    ]
    say(f"{part}: {curve.num_queries:,} queries, lists of {k} out of {curve.num_candidates} candidates")
    table("", names, rows, right=names)
    best = curve.best()
    say(
        f"most diverse within 5% of the recall: weight {best.weight:g}, diversity "
        f"{_change(best.diversity, first.diversity)}, recall {_change(best.recall, first.recall)}"
    )
    if plot is not None:
        say(f"drawn: {plot}")


def _change(value: float, before: float) -> str:
    return f"{value / before - 1:+.1%}" if before else "-"


def _load(run: Path, command: str) -> RetrievalRecommender:
    """The recommender of a run that ranks a catalogue."""
    from intarsia.recommender.retrieval import RetrievalRecommender
    from intarsia.recommender.two_stage import TwoStageRecommender

    found = RetrievalRecommender.load(run)
    if isinstance(found, RetrievalRecommender):
        return found
    from intarsia.core.errors import DataError

    model = "two stages" if isinstance(found, TwoStageRecommender) else found.config.model.model_class
    raise DataError(
        f"`intarsia {command}` is of models that rank a catalogue. Received: {model}. Name the run of a retriever."
    )
