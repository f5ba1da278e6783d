"""Loading a log with intarsia, to the first batch of a sequence model; twice, the second time from the cache."""

import time

from report import Report

import intarsia.recommender.retrieval_job  # noqa: F401 - others import all of themselves before the clock starts
from intarsia.models.catalogue import messages
from intarsia.recommender.jobs import open_job
from intarsia.recommender.pipeline import pipeline_from

messages()  # and their models
report = Report("intarsia")
path = report.data / f"log.{report.options['format']}"
pipeline = {
    "train_input_path": str(path),
    "data_config": {
        "log": {"user_field": "user_id", "item_field": "item_id", "time_field": "timestamp"},
        "split": {"by": "leave_one_out", "valid": 0, "test": 0},
        "batch_size": 128,
        "cache_dir": str(report.out.parent / "cache"),
    },
    "model_config": {"model_class": "SASRec", "sasrec": {"max_history": 50}},
}


def first_batch() -> float:
    """Seconds from the pipeline to the first training batch."""
    started = time.perf_counter()
    job = open_job(pipeline_from(pipeline).config)
    job.build()
    batches = job.training()
    assert batches is not None
    next(iter(batches.epoch(0, 0)))
    return time.perf_counter() - started


report.figures["first batch"] = first_batch()
report.figures["rows/s"] = report.number("rows") / report.figures["first batch"]
report.figures["second start"] = first_batch()
report.write()
