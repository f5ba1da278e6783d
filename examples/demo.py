"""The demo: MovieLens 100K from the log to ten recommendations with titles, in two stages and in one go.

    python examples/demo.py [--history 50,181,258] [--user 196] [--data-dir FOLDER] [--run-dir runs/demo]

Trains the retriever of `movielens_retriever.yaml` (which movies come next, out of all?) and the ranker of
`movielens_ranker.yaml` (will this user rate this movie 4 or higher? The history so far is among the features); of both,
the last tenth by time is the test part. Shows their metrics beside popularity and a logistic regression. Then the two
recommend together, for a known user and for the history of somebody whom they have never seen: the retriever finds 200
candidates, the ranker puts them in order.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from intarsia.core.errors import IntarsiaError
from intarsia.data.catalogue import default_folder
from intarsia.data.labels import group_ids
from intarsia.data.log import LABEL, split_rows
from intarsia.evaluation.metrics.counting import auc, grouped_auc
from intarsia.recommender.fit import Fitted, run
from intarsia.recommender.parts import open_log
from intarsia.recommender.pipeline import load_pipeline
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.two_stage import combine
from intarsia.training.progress import make_reporter

HERE = Path(__file__).parent
console = Console(highlight=False)
RANKED, SCORED = ("hit_rate@10", "ndcg@10", "recall@50", "coverage@10"), ("auc", "gauc", "logloss")


def popularity() -> dict[str, float | None]:
    """Metrics on the test part of a score that only counts how often a movie was liked in the training part."""
    config = load_pipeline(HERE / "movielens_ranker.yaml", [f"data_config.dataset={dataset()}"]).config
    assert config.data_config.split is not None
    log = open_log(config)
    parts = split_rows(log, config.data_config.split, config.train_config.seed)
    train, test = log.events[parts["train"]], log.events[parts["test"]]
    liked = train.filter(pl.col(LABEL) > 0).group_by("item_id").len("score")
    scores = test.join(liked, on="item_id", how="left", maintain_order="left")["score"].fill_null(0).to_numpy()
    labels = test[LABEL].to_numpy() > 0
    by_user = grouped_auc(scores.astype(np.float64), labels, group_ids(test, ["user_id"])["user_id"])
    return {"auc": auc(scores.astype(np.float64), labels), "gauc": by_user.reduce("mean"), "logloss": None}


def dataset() -> str:
    """The data set as a pipeline names it: from the cache, or from a local folder."""
    return f"ml-100k:{ARGUMENTS.data_dir}" if ARGUMENTS.data_dir else "ml-100k"


def trained(name: str, quiet: bool, overrides: Sequence[str] = ()) -> Fitted:
    """A pipeline of this folder, trained anew."""
    loaded = load_pipeline(HERE / f"{name}.yaml", [f"data_config.dataset={dataset()}", *overrides])
    folder = Path(ARGUMENTS.run_dir) / name
    return run(loaded, run_dir=folder, overwrite=True, reporter=None if quiet else make_reporter())


def show_metrics(title: str, names: tuple[str, ...], results: dict[str, dict[str, float | None]]) -> None:
    """The test metrics side by side."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("model")
    for metric in names:
        table.add_column(metric, justify="right")
    for name, values in results.items():
        cells = [values.get(metric) for metric in names]
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in cells))
    console.print(table)


def show_items(title: str, found: pl.DataFrame) -> None:
    """Recommended titles."""
    console.print(f"[bold]{title}[/bold]", soft_wrap=True)
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column, side in (("rank", "right"), ("item_id", "right"), ("title", "left"), ("score", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for row in found.select("rank", "item_id", "title", "score").rows():
        table.add_row(str(row[0]), row[1], row[2], f"{row[3]:.3f}")
    console.print(table)


def main() -> None:
    """Runs the demo."""
    started = time.perf_counter()
    place = ARGUMENTS.data_dir or f"{default_folder() / 'ml-100k'} (fetched if absent)"
    console.print(f"[bold]MovieLens 100K[/bold]: {place}")
    finds: dict[str, dict[str, float | None]] = {}
    for title, overrides in (("popularity", ["model_config.model_class=Pop"]), ("retriever", [])):
        console.print(f"training: {title}")
        first = trained("movielens_retriever", bool(overrides), overrides)
        finds[title] = {metric: value.value for metric, value in first.evaluations["test"].values.items()}
    results: dict[str, dict[str, float | None]] = {"popularity": popularity()}
    pipelines = (("logistic regression", "movielens_logistic", True), ("ranker", "movielens_ranker", False))
    for title, name, quiet in pipelines:
        console.print(f"training: {title}")
        fitted = trained(name, quiet)
        results[title] = {metric: value.value for metric, value in fitted.evaluations["test"].values.items()}
    console.print()
    show_metrics("test part: all movies ranked", RANKED, finds)
    console.print()
    show_metrics("test part: rated movies scored", SCORED, results)
    both = combine(first.recommender.folder, fitted.recommender.folder, num_candidates=200)
    both.save(Path(ARGUMENTS.run_dir) / "two_stages")
    recommender = Recommender.load(Path(ARGUMENTS.run_dir) / "two_stages")
    history = [item.strip() for item in ARGUMENTS.history.split(",") if item.strip()]
    memory = both.retriever.memory
    assert memory.catalogue is not None
    titles = dict(memory.catalogue.select("item_id", "title").rows())
    console.print()
    show_items(f"ten movies for user {ARGUMENTS.user}", recommender.recommend(users=[ARGUMENTS.user], k=10))
    console.print()
    told = ", ".join(titles.get(item, item) for item in history)
    show_items(f"ten movies for somebody who liked {told}", recommender.recommend(history=[history], k=10))
    console.print(f"\nrun folder: {recommender.folder}; {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", default="50,181,258", help="comma-separated item ids, oldest first")
    parser.add_argument("--user", default="196", help="id of a known user")
    parser.add_argument("--data-dir", default="", help="local copy of MovieLens 100K")
    parser.add_argument("--run-dir", default="runs/demo", help="folder of the runs")
    ARGUMENTS = parser.parse_args()
    try:
        main()
    except IntarsiaError as error:
        raise SystemExit(f"error: {error}") from None
