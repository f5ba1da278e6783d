"""EASE with LensKit: its pipeline for top lists, run for all users by its batch runner."""

import numpy as np
import pandas as pd
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.knn import EASEScorer
from lenskit.parallel import initialize
from lenskit.pipeline import topn_pipeline
from report import Report


def main() -> None:
    """Its batches run in processes of its own, which import this file."""
    report = Report("lenskit")
    users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
    num_users = int(np.load(report.data / "size.npy")[0])
    depth = report.number("k")
    initialize(processes=report.threads, threads=report.threads, backend_threads=report.threads)
    with report.phase("fit"):
        dataset = from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items}))
        pipeline = topn_pipeline(EASEScorer(regularization=report.number("l2")), n=depth)
        pipeline.train(dataset)
    with report.phase("recommend"):
        answer = recommend(pipeline, range(num_users), n=depth)
    lists = np.full((num_users, depth), -1)
    for key, found in answer.items():
        lists[key.user_id, : len(found)] = found.ids()
    np.save(report.out.parent / "lists.npy", lists)
    report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
    report.figures["total"] = sum(report.seconds.values())
    report.write()


if __name__ == "__main__":
    main()
