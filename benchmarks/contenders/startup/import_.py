"""Seconds to import `modules`, which a first model and its trainer need, of any framework; `package` is its name."""

import importlib
import time

from report import Report

report = Report("")
report.package = report.options["package"]
started = time.perf_counter()
for module in report.options["modules"].split(","):
    importlib.import_module(module)
report.figures["import"] = time.perf_counter() - started
report.write()
