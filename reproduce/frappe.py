"""Prepares Frappe (BARS Frappe_x1 protocol) from libsvm files: one CSV a part, one column a field.

    python reproduce/frappe.py FOLDER [OUT]

FOLDER holds `train_reconstructed.libsvm.gz` (or `train.libsvm.gz`), `valid.libsvm.gz`, `test.libsvm.gz`: lines
`label id:1 x10`, the ids numbered over all fields. OUT (default `data/frappe`) gets `train.csv`, `valid.csv`,
`test.csv` with a header.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

FIELDS = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]


def convert(source: Path, target: Path) -> int:
    """One libsvm file to one CSV; the number of rows."""
    lines = pl.read_csv(source, has_header=False, separator="\n", new_columns=["line"], infer_schema=False)
    cells = lines.select(pl.col("line").str.split(" ").list.to_struct(fields=["label", *FIELDS])).unnest("line")
    table = cells.with_columns(pl.col(FIELDS).str.strip_suffix(":1"))
    if table.null_count().sum_horizontal().item():
        raise SystemExit(f"{source}: every line must hold a label and {len(FIELDS)} ids")
    target.parent.mkdir(parents=True, exist_ok=True)
    table.write_csv(target)
    return table.height


def main() -> None:
    """Converts the three parts."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    folder, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "data/frappe")
    for part in ("train", "valid", "test"):
        found = [p for p in (folder / f"{part}.libsvm.gz", folder / f"{part}_reconstructed.libsvm.gz") if p.exists()]
        if not found:
            raise SystemExit(f"{folder} must hold {part}.libsvm.gz")
        print(f"{out / part}.csv: {convert(found[0], out / f'{part}.csv'):,} rows")


if __name__ == "__main__":
    main()
