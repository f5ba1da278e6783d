"""`doctor`: what this machine has, and what is wrong with the installation."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import typer

from intarsia.cli.output import Json

EXTRAS = {
    "fbgemm": "faster tables on the CPU (train_config.embedding_backend)",
    "tensorboard": "TensorBoard files (train --tensorboard)",
    "plot": "pictures of models (show --image)",
    "test": "the tests of the project",
    "lint": "formatter, linter, type checker of the project",
}
"""What the extras of the package are for."""

IMPORTS = {"pyyaml": "yaml", "faiss-cpu": "faiss", "fbgemm-gpu-cpu": "fbgemm_gpu"}
"""Names to import, where they differ from the name of the distribution."""

OLDEST_PYTHON = (3, 11)
FREE_DISK = 2_000_000_000


@dataclass(frozen=True)
class Requirement:
    """`name>=1,<2; extra == "x"`, as the package's metadata have it."""

    name: str
    bounds: str
    extra: str


@dataclass(frozen=True)
class Problem:
    """Something wrong, and its cure.

    Attributes:
        required: Whether nothing works without it.
    """

    required: bool
    message: str
    cure: str


@dataclass
class Health:
    """All that `doctor` found."""

    facts: dict[str, Any] = field(default_factory=dict)
    packages: list[dict[str, Any]] = field(default_factory=list)
    extras: list[dict[str, Any]] = field(default_factory=list)
    folders: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(doctor)


def doctor(json: Json = False) -> None:
    """Tell what this machine and this installation have, what is broken, and how to mend it.

    Exit code 1 if something that everything needs is broken.
    """
    from intarsia.cli.output import print_json

    health = examine()
    broken = any(problem.required for problem in health.problems)
    if json:
        print_json({**asdict(health), "healthy": not broken})
    else:
        _tell(health)
    if broken:
        raise typer.Exit(1)


def examine() -> Health:
    """Looks at Python, packages, accelerators, extras and folders."""
    import platform

    from intarsia import __version__

    health = Health()
    health.facts = {
        "intarsia": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu_cores": _cores(),
        "memory_bytes": _memory("MemTotal"),
        "memory_available_bytes": _memory("MemAvailable"),
    }
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        health.problems.append(
            Problem(True, f"Python {platform.python_version()} is too old", f"use Python {wanted} or newer")
        )
    found = list(requirements())
    if not found:
        health.problems.append(
            Problem(
                False,
                "intarsia runs from its source and is not installed, so versions are not checked",
                "pip install -e .",
            )
        )
    for requirement in found:
        if not requirement.extra:
            health.packages.append(_package(requirement, health.problems))
    _extras(found, health)
    _accelerators(health)
    _folders(health)
    return health


def requirements() -> Iterator[Requirement]:
    """What the installed package says that it needs; nothing where it is not installed."""
    from importlib import metadata

    try:
        lines = metadata.requires("intarsia") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        what, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", what.strip())
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if name is not None:
            bounds = what.strip()[name.end() :].strip(" ()")
            yield Requirement(name[0], bounds, extra[1] if extra else "")


def within(version: str, bounds: str) -> bool:
    """Whether a version satisfies `>=1.2,<2`; local parts such as `+cpu` do not count."""
    have = _numbers(version)
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        match = re.match(r"(>=|<=|==|!=|~=|>|<)\s*(.+)", bound)
        if match is None:
            continue
        want = _numbers(match[2])
        width = max(len(have), len(want))
        a, b = _padded(have, width), _padded(want, width)
        holds = {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b, "~=": a >= b}
        if not holds[match[1]]:
            return False
        if match[1] == "~=" and have[: len(want) - 1] != want[:-1]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers; what follows them (`rc1`, `.dev3`, `+cpu`) is left out."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))


def _package(requirement: Requirement, problems: list[Problem]) -> dict[str, Any]:
    """A required package: its version, whether that is in range, and whether it can be imported."""
    import importlib

    name = requirement.name
    module = IMPORTS.get(name.lower(), name.replace("-", "_"))
    version: str | None = None
    error = ""
    try:
        imported = importlib.import_module(module)
        version = _version(name) or str(getattr(imported, "__version__", "unknown"))
    except Exception as caught:  # a broken binary raises anything
        error = f"{type(caught).__name__}: {str(caught).splitlines()[0] if str(caught) else ''}"
        version = _version(name)
    fits = version is not None and (version == "unknown" or within(version, requirement.bounds))
    install = f"pip install '{name}{requirement.bounds}'"
    if error:
        problems.append(Problem(True, f"{name} cannot be imported ({error})", f"{install} --force-reinstall"))
    elif not fits:
        problems.append(Problem(True, f"{name} {version} is out of the range {requirement.bounds}", install))
    return {"name": name, "needed": requirement.bounds, "installed": version, "works": not error and fits}


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras(found: list[Requirement], health: Health) -> None:
    for extra in dict.fromkeys(r.extra for r in found if r.extra):
        members = [r for r in found if r.extra == extra]
        versions = {r.name: _version(r.name) for r in members}
        wrong = [r for r in members if (v := versions[r.name]) is not None and not within(v, r.bounds)]
        for r in wrong:
            message = f"{r.name} {versions[r.name]} is out of the range {r.bounds} of the extra `{extra}`"
            health.problems.append(Problem(False, message, f"pip install 'intarsia[{extra}]'"))
        complete = all(versions.values())
        health.extras.append(
            {"name": extra, "for": EXTRAS.get(extra, ""), "packages": versions, "installed": complete and not wrong}
        )
        if extra == "fbgemm" and complete:
            health.facts["fbgemm_loads"] = loads = _loads("torch, fbgemm_gpu")
            if loads is not True:
                health.problems.append(
                    Problem(
                        False,
                        f"FBGEMM is installed and cannot be loaded ({loads})",
                        "install the version that belongs to this torch, or pip uninstall fbgemm-gpu-cpu; "
                        "train_config.embedding_backend: torch does without",
                    )
                )


def _loads(modules: str) -> bool | str:
    """Whether modules can be imported, tried in a process of its own: a wrong binary may end the process."""
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {modules}"], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}"
    if done.returncode == 0:
        return True
    return (done.stderr.strip().splitlines() or [f"it ends the process with {done.returncode}"])[-1]


def _accelerators(health: Health) -> None:
    try:
        import torch
    except Exception:  # told above
        return
    cuda = torch.cuda.is_available()
    health.facts |= {
        "torch_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if cuda else [],
        "cuda_version_of_torch": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
    }
    if torch.version.cuda is not None and not cuda:
        cure = "check the driver with nvidia-smi; without a GPU all is well"
        health.problems.append(Problem(False, f"torch is built for CUDA {torch.version.cuda} and sees no GPU", cure))


def _folders(health: Health) -> None:
    import shutil

    from intarsia.data.cache import default_cache_dir
    from intarsia.data.catalogue import default_folder

    for purpose, folder in (("encoded data", default_cache_dir() / "encoded"), ("data sets", default_folder())):
        near = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
        writable = os.access(near, os.W_OK)
        free = shutil.disk_usage(near).free
        health.folders.append(
            {"for": purpose, "folder": str(folder), "bytes": _size(folder), "free_bytes": free, "writable": writable}
        )
        variable = "INTARSIA_CACHE" if purpose == "encoded data" else "INTARSIA_DATA"
        if not writable:
            health.problems.append(Problem(False, f"{near} cannot be written", f"set {variable} to another folder"))
        elif free < FREE_DISK:
            message = f"{near} has {free / 1e9:.1f} GB left for {purpose}"
            health.problems.append(Problem(False, message, f"make room, or set {variable} to another folder"))


def _size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    if not folder.is_dir():
        return 0
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            path = Path(root) / file
            total += path.lstat().st_size if path.exists() else 0
    return total


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(what: Literal["MemTotal", "MemAvailable"]) -> int | None:
    """Bytes of memory, None where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found = re.search(rf"{what}:\s+(\d+) kB", text)
        return int(found[1]) * 1024 if found else None
    except OSError:
        if what == "MemTotal" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return None


def _tell(health: Health) -> None:
    from intarsia.cli.output import say, size, table

    for name, value in health.facts.items():
        shown = value
        if name.endswith("_bytes"):
            name, shown = name.removesuffix("_bytes"), "unknown" if value is None else size(value)
        elif isinstance(value, list):
            shown = ", ".join(value) or "none"
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        say(f"{name.replace('_', ' ') + ':':24}{'-' if shown is None else shown}")
    say()
    rows = [
        [p["name"], p["needed"], p["installed"] or "missing", "yes" if p["works"] else "NO"] for p in health.packages
    ]
    table("packages", ["package", "needed", "installed", "works"], rows)
    say()
    rows = [
        [
            e["name"],
            "yes" if e["installed"] else "no",
            e["for"],
            ", ".join(n for n, v in e["packages"].items() if v is None) or "-",
        ]
        for e in health.extras
    ]
    table("extras", ["extra", "installed", "for", "missing packages"], rows)
    say()
    rows = [[f["for"], f["folder"], size(f["bytes"]), size(f["free_bytes"])] for f in health.folders]
    table("folders", ["for", "folder", "size", "free"], rows, right=["size", "free"])
    say()
    for problem in health.problems:
        level = "error" if problem.required else "warning"
        say(f"{level}: {problem.message}\n  cure: {problem.cure}", style="red" if problem.required else "yellow")
    if not health.problems:
        say("no problems found")
