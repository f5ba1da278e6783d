"""Writes a table of MovieLens-1M's films with the first of each film's genres, out of the publisher's movies.dat.

python reproduce/ml1m_genres.py data/ml-1m/movies.dat ml1m_genres.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def main() -> None:
    """movies.dat holds lines `id::title::genre|genre|...` in Latin-1."""
    source, target = (Path(argument) for argument in sys.argv[1:])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["movie_id", "title", "genre"])
        for line in source.read_text(encoding="latin-1").splitlines():
            movie, title, genres = line.split("::")
            writer.writerow([movie, title, genres.split("|")[0]])


if __name__ == "__main__":
    main()
