"""ALS with implicit, with the weights and the strength of the penalty that the job sets."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from report import Report
from scipy.sparse import csr_matrix

report = Report("implicit")
users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
num_users, num_items = np.load(report.data / "size.npy").tolist()
unobserved = float(report.options["unobserved"])
# The job's loss: sum over taken (p - 1)^2 + unobserved sum over all p^2 + regularization times n_u |x_u|^2 and
# likewise of items, where n_u = |items of u| + unobserved |items|. Divided by `unobserved` it has implicit's normal
# equations, up to the scale of the vectors, with a confidence of 1 + 1 / unobserved. implicit has one penalty for all
# vectors: the geometric mean of those of an average user and an average item, as the scores depend on their product.
frequencies = (len(users) / num_users + unobserved * num_items) * (len(users) / num_items + unobserved * num_users)
penalty = float(report.options["regularization"]) / unobserved * frequencies**0.5
with report.phase("fit"):
    matrix = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=(num_users, num_items))
    model = AlternatingLeastSquares(
        factors=report.number("factors"),
        iterations=report.number("iterations"),
        alpha=1 + 1 / unobserved,
        regularization=penalty,
        num_threads=report.threads,
        random_state=1,
    )
    model.fit(matrix, show_progress=False)
with report.phase("recommend"):
    lists, _ = model.recommend(np.arange(num_users), matrix, N=report.number("k"))
np.save(report.out.parent / "lists.npy", lists.astype(np.int64))
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
report.notes.append(f"alpha {1 + 1 / unobserved:g}, regularization {penalty:.4g}, the same for every vector")
report.write()
