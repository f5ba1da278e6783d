"""EASE with RecTools."""

from rectools.models import EASEModel
from rectools_common import recommend, training_set
from report import Report

report = Report("rectools")
with report.phase("fit"):
    dataset = training_set(report)
    model = EASEModel(
        regularization=report.number("l2"), recommend_n_threads=report.threads, recommend_use_gpu_ranking=False
    )
    model.fit(dataset)
recommend(report, model, dataset)
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
report.notes.append("RecTools multiplies histories by the transposed weights, hence its slightly different lists")
report.write()
