"""A click model on Frappe with DeepCTR-Torch: `fit` for an epoch, `evaluate`, until the AUC is reached."""

import numpy as np
import torch
import torch._dynamo  # which the first optimizer imports
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN, DeepFM
from report import Report
from sklearn.preprocessing import OrdinalEncoder

report = Report("deepctr-torch")
torch.set_num_threads(report.threads)
batch = report.number("batch")
settings = {
    "dnn_hidden_units": (400, 400, 400),
    "dnn_dropout": 0.2,
    "dnn_use_bn": True,
    "l2_reg_linear": 0,
    "l2_reg_embedding": 0,
}
with report.phase("prepare"):
    names = (report.data / "train.csv").read_text().split(maxsplit=1)[0].split(",")[1:]
    files = {name: report.data / f"{name}.csv" for name in ("train", "valid", "test")}
    parts = {name: np.loadtxt(file, dtype=np.int64, delimiter=",", skiprows=1) for name, file in files.items()}
    encoder = OrdinalEncoder(dtype=np.float32, handle_unknown="use_encoded_value", unknown_value=-1)
    encoder.fit(parts["train"][:, 1:])
    inputs, labels = {}, {}
    for name, part in parts.items():
        # 0 is for ids that the training part lacks.
        inputs[name] = dict(zip(names, (encoder.transform(part[:, 1:]) + 1).T))
        labels[name] = part[:, 0].astype(np.float32)
with report.phase("build"):
    sizes = [len(known) + 1 for known in encoder.categories_]
    features = [SparseFeat(name, size, report.number("width")) for name, size in zip(names, sizes)]
    if report.options["model"] == "deepfm":
        model = DeepFM(features, features, **settings)
    else:
        model = DCN([], features, cross_num=3, cross_parameterization="matrix", l2_reg_cross=0, **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.compile(optimizer, "binary_crossentropy", metrics=["auc"])
report.train_until(
    lambda: model.fit(inputs["train"], labels["train"], batch_size=batch, epochs=1, verbose=0),
    lambda: float(model.evaluate(inputs["valid"], labels["valid"], batch)["auc"]),
)
report.write()
