"""What one waits for before anything happens."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import Bar, Contender, Job


def prepare(data_dir: Path, folder: Path) -> None:
    """The log of MovieLens-100K."""
    shutil.copy(data_dir / "ml-100k" / "ml-100k.inter", folder)


def imported(name: str, package: str, modules: str, peer: str) -> Contender:
    """A peer, by what a user imports for a first model."""
    return Contender(name, "startup/import_.py", peer, {"package": package, "modules": modules})


JOBS = (
    Job(
        name="startup",
        title="Start",
        setting="a new process: what a user imports for a first model; `intarsia --help`; `train` of SASRec on "
        "MovieLens-100K to the end of the first update",
        contenders=(
            Contender("intarsia", "startup/first_step.py"),
            imported(
                "RecTools",
                "rectools",
                "rectools.dataset,rectools.models,rectools.models.nn.transformers.sasrec",
                "rectools",
            ),
            imported("RecBole", "recbole", "recbole.quick_start", "recbole"),
            imported("DeepCTR-Torch", "deepctr-torch", "deepctr_torch.inputs,deepctr_torch.models", "deepctr"),
            imported(
                "Torch-RecHub",
                "torch-rechub",
                "torch_rechub.models.ranking,torch_rechub.trainers,torch_rechub.utils.data",
                "rechub",
            ),
            imported("LensKit", "lenskit", "lenskit,lenskit.als,lenskit.batch", "lenskit"),
            imported("Cornac", "cornac", "cornac", "cornac"),
            imported("implicit", "implicit", "implicit.als", "implicit"),
            imported("torch", "torch", "torch", "deepctr"),
        ),
        show={"import": "s", "help": "s", "first step": "s"},
        bars=(Bar("import", limit=0.3), Bar("first step", limit=6.0)),
        prepare=prepare,
    ),
)
