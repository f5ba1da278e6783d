"""Loading a log with FuxiCTR: `FeatureProcessor` and `build_dataset`, to the first batch of its data loader."""

import time
from pathlib import Path

import polars as pl
import ray
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from report import Report

report = Report("fuxictr")
source = Path("log.csv").resolve()
pl.read_csv(report.data / "log.csv").with_columns(click=pl.lit(1.0)).write_csv(source)
columns = [
    {"name": name, "active": True, "dtype": "int", "type": "categorical", "source": kind}
    for name, kind in (("user_id", "user"), ("item_id", "item"))
]
label = {"name": "click", "dtype": "float"}
# Ray, on which all of it runs, is started like an import: before the clock.
ray.init(num_cpus=report.threads, _temp_dir=str(Path("ray").resolve()), logging_level="ERROR")
started = time.perf_counter()
encoder = FeatureProcessor(columns, label, dataset_id="log", data_root=str(Path("data").resolve()))
train, _, _ = build_dataset(encoder, train_data=str(source))
loader, _ = RankDataLoader(
    encoder.feature_map, stage="train", train_data=train, batch_size=128, shuffle=True, data_format="parquet"
)
batch = next(iter(loader))
report.figures["first batch"] = time.perf_counter() - started
report.figures["rows/s"] = report.number("rows") / report.figures["first batch"]
report.notes.append("single rows, not histories: its log has no order")
report.notes.append("Ray is started before the clock; its processes do not count in the peak of memory")
ray.shutdown()
report.write()
