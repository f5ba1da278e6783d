"""Sets up the environments of the frameworks that intarsia is measured against.

    python benchmarks/peers/setup.py [NAME ...]     all of them, or some; `--list` prints what there is

Each gets an environment of its own in `benchmarks/.peers/NAME`, because their requirements contradict one another. They
need some 8 GB of disk in all. A benchmark runs the peers whose environment is there and leaves out the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".peers"
TORCH = "torch>=2.11,<2.14"

# RecBole 1.2.1 was written for numpy 1 and an older pyarrow, and imports ray and what ray imports. RecTools brings a
# fork of implicit that writes into implicit's own folder, so that the two cannot share an environment.
PEERS: dict[str, list[str]] = {
    "recbole": ["recbole==1.2.1", "numpy<2", "pyarrow<19", "ray[tune]", "pandas<3", "setuptools<81", TORCH],
    "rectools": ["rectools[torch]==0.19.0", "numpy<2", TORCH],
    "implicit": ["implicit==0.7.3"],
    "deepctr": ["deepctr-torch==0.3.0", "requests", TORCH],
    "rechub": ["torch-rechub==0.9.0", TORCH],
    "lenskit": ["lenskit==2025.8.1", TORCH],
    "cornac": ["cornac==3.0.1", TORCH],
    "fuxictr": ["fuxictr==2.3.10", "polars<2", TORCH],
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment; it exists where the peer is set up."""
    return FOLDER / name / "bin" / "python"


def set_up(name: str) -> None:
    """Makes the environment of one peer anew."""
    folder = FOLDER / name
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS[name]], check=True)


def main() -> None:
    """Reads the names and sets them up one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; default: all")
    parser.add_argument("--list", action="store_true", help="print the peers and what they require")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(PEERS))
    if unknown:
        parser.error(f"no peer is called {', '.join(unknown)}. Choose from: {', '.join(PEERS)}.")
    if given.list:
        for name, requirements in PEERS.items():
            print(f"{name:<10}{'ready' if python_of(name).exists() else '-':<8}{' '.join(requirements)}")
        return
    failed = []
    for name in given.names or PEERS:
        print(f"{name}: {' '.join(PEERS[name])}", flush=True)
        try:
            set_up(name)
        except subprocess.CalledProcessError:
            failed.append(name)
    if failed:
        sys.exit(f"could not be set up: {', '.join(failed)}. The messages of pip stand above.")


if __name__ == "__main__":
    main()
