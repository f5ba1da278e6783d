"""Click models on Frappe, from the files to an AUC."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import HERE, Bar, Contender, Job

sys.path.append(str(HERE.parent / "reproduce"))


def prepare(data_dir: Path, folder: Path) -> None:
    """The three parts as CSV files."""
    from frappe import convert

    source = data_dir / "frappe" / "frappe_x1"
    for part, file in (("train", "train_reconstructed"), ("valid", "valid"), ("test", "test")):
        if not (source / f"{file}.libsvm.gz").exists():
            raise FileNotFoundError(source / f"{file}.libsvm.gz")
        convert(source / f"{file}.libsvm.gz", folder / f"{part}.csv")


def job(name: str, model: str, title: str) -> Job:
    """The job with a model."""
    return Job(
        name=name,
        title=title,
        setting="202,027 rows of 10 ids, width 10, MLP 400-400-400, batches of 4,096, Adam; from the files to an AUC "
        "of 0.97 on the validation part",
        contenders=(
            Contender("intarsia", "frappe/ours.py"),
            Contender("DeepCTR-Torch", "frappe/deepctr_.py", "deepctr", rounds=1),
            Contender("Torch-RecHub", "frappe/rechub_.py", "rechub", rounds=1),
        ),
        show={"prepare": "s", "epoch": "s", "epochs": "", "auc": "", "total": "s", "peak MiB": ""},
        bars=(Bar("prepare", limit=3.0), Bar("epoch", least=3.5), Bar("total", least=5.0)),
        prepare=prepare,
        options={"model": model, "width": 10, "batch": 4096, "target": "0.97", "max_epochs": 6},
    )


JOBS = (job("frappe_deepfm", "deepfm", "DeepFM on Frappe"), job("frappe_dcnv2", "dcnv2", "DCN-v2 on Frappe"))
