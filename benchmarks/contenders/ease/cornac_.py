"""EASE with Cornac; it recommends to one user at a time."""

import numpy as np
from cornac.data import Dataset
from cornac.models import EASE
from report import Report

report = Report("cornac")
users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
num_users = int(np.load(report.data / "size.npy")[0])
depth = report.number("k")
with report.phase("fit"):
    dataset = Dataset.from_uir(zip(users.tolist(), items.tolist(), [1.0] * len(users), strict=True))
    model = EASE(lamb=report.number("l2"), posB=False, verbose=False).fit(dataset)
with report.phase("recommend"):
    answer = [model.recommend(user, k=depth, remove_seen=True, train_set=dataset) for user in range(num_users)]
np.save(report.out.parent / "lists.npy", np.array(answer))
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
report.notes.append("weights below zero are kept (posB=False), as everybody else does")
report.write()
