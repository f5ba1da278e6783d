"""`intarsia train` on MovieLens-100K in a fresh process, to the end of the first update."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Report

PROGRAM = """
import sys, time
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import load_pipeline
from intarsia.training.recorder import Recorder

updated = Recorder.updated

def first(self, step):
    if step == 1:
        print(time.time())
    updated(self, step)

Recorder.updated = first
run(load_pipeline(sys.argv[1], ["train_config.num_steps=1"]), run_dir=sys.argv[2], overwrite=True)
"""
PIPELINE = """
train_input_path: {log}
data_config:
  log: {{format: atomic}}
  split: leave_one_out
  batch_size: 128
model_config: {{model_class: SASRec, sasrec: {{max_history: 50}}}}
train_config: {{num_steps: 1}}
eval_config: {{metrics: [ndcg@10]}}
"""
report = Report("intarsia")
with tempfile.TemporaryDirectory() as folder:
    pipeline = Path(folder) / "sasrec.yaml"
    pipeline.write_text(PIPELINE.format(log=(report.data / "ml-100k.inter").resolve()))
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(pipeline), str(Path(folder) / "run")],
        check=True,
        capture_output=True,
        text=True,
    )
    report.figures["first step"] = float(done.stdout.split()[0]) - started
    for name, arguments in (("import", ["-c", "import intarsia"]), ("help", ["-m", "intarsia", "--help"])):
        started = time.time()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        report.figures[name] = time.time() - started
report.write()
