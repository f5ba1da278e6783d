"""EASE with intarsia: `fit`, then `recommend` for everybody."""

import intarsia
import numpy as np
import polars as pl
from report import Report

report = Report("intarsia")
frame = pl.DataFrame({name: np.load(report.data / f"train_{name}s.npy") for name in ("user", "item")})
with report.phase("fit"):
    pipeline = {
        "data_config": {"log": {"user_field": "user", "item_field": "item"}, "split": {"by": "random", "valid": 0, "test": 0}},
        "model_config": {"model_class": "EASE", "ease": {"l2": report.number("l2")}},
    }
    fitted = intarsia.fit(pipeline, data=frame, run_dir=report.out.parent / "run")
with report.phase("recommend"):
    num_users = int(np.load(report.data / "size.npy")[0])
    answer = fitted.recommend(users=np.arange(num_users), k=report.number("k"))
print(answer)
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
np.save(report.out.parent / "lists.npy", answer["item"].cast(pl.Int64).to_numpy().reshape(num_users, -1))
report.write()
