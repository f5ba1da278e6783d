"""MF with BPR with implicit: plain gradient steps, one interaction at a time."""

import numpy as np
from implicit.bpr import BayesianPersonalizedRanking
from report import Report
from scipy.sparse import csr_matrix

LEARNING_RATE = 0.1  # the shipped 0.01 leaves ten passes over Gowalla at chance

report = Report("implicit")
users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
num_users, num_items = np.load(report.data / "size.npy").tolist()
epochs = report.number("epochs")
matrix = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=(num_users, num_items))
model = BayesianPersonalizedRanking(
    factors=report.number("factors"),
    iterations=epochs,
    learning_rate=LEARNING_RATE,
    num_threads=report.threads,
    random_state=1,
)
with report.phase("fit"):
    model.fit(matrix, show_progress=False)
with report.phase("recommend"):
    lists, _ = model.recommend(np.arange(num_users), matrix, N=report.number("k"))
np.save(report.out.parent / "lists.npy", lists.astype(np.int64))
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures |= {"epoch": report.seconds["fit"] / epochs, "passes": epochs}
report.notes.append(f"learning rate {LEARNING_RATE}; negatives follow their frequency in the log, not uniform")
report.write()
