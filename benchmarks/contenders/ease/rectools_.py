"""EASE with RecTools."""

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import EASEModel
from rectools_common import recommend
from report import Report

report = Report("rectools")
users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
with report.phase("fit"):
    frame = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.Timestamp("2000-01-01")
    dataset = Dataset.construct(frame)
    model = EASEModel(
        regularization=report.number("l2"), recommend_n_threads=report.threads, recommend_use_gpu_ranking=False
    )
    model.fit(dataset)
recommend(report, model, dataset)
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
report.notes.append("RecTools multiplies histories by the transposed weights, hence its slightly different lists")
report.write()
