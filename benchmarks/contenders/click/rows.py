"""The rows of the job as the contenders read them."""

import numpy as np
import numpy.typing as npt
from report import Report


def load(report: Report) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Numeric columns (n, 13), id columns (n, 26) and labels (n,) of all batches, those that warm up included."""
    rows = (report.number("steps") + report.number("warm")) * report.number("batch")
    numbers, columns = (np.load(report.data / f"{name}.npy", mmap_mode="r")[:rows] for name in ("dense", "ids"))
    return numbers, columns, np.load(report.data / "labels.npy")[:rows]
