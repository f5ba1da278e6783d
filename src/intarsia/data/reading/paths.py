"""Which files a path, folder, glob or list of them stands for."""

from __future__ import annotations

import difflib
import glob
from pathlib import Path

from intarsia.core.errors import DataError


def resolve_paths(spec: str | Path | list[str] | list[Path], base_dir: str | Path | None = None) -> list[Path]:
    """The files that `spec` stands for, in the order of the list, sorted within a folder or glob.

    Hidden files (a name that starts with `.` or `_`, such as `_SUCCESS`) are left out unless they are named
    themselves. A path that exists is taken as it is, even where its name holds a comma or a glob's characters.

    Args:
        spec: A path, folder or glob, or several separated by commas (or as a list).
        base_dir: Folder that relative paths start from. Default: the current one.

    Raises:
        DataError: An item matches no file. The message names the folder and near names that exist in it.
    """
    if isinstance(spec, str | Path):
        whole = _anchored(str(spec).strip(), base_dir)
        items = [str(spec)] if str(spec).strip() and whole.is_file() else str(spec).split(",")
    else:
        items = [str(item) for item in spec]
    items = [item.strip() for item in items if item.strip()]
    if not items:
        raise DataError("An input path must name at least one file. Received an empty path.")
    return [path for item in items for path in _expand(item, base_dir)]


def _anchored(item: str, base_dir: str | Path | None) -> Path:
    path = Path(item).expanduser()
    return Path(base_dir) / path if base_dir is not None and not path.is_absolute() else path


def _expand(item: str, base_dir: str | Path | None) -> list[Path]:
    path = _anchored(item, base_dir)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if _is_data(entry))
        if not found:
            raise DataError(f"Folder `{path}` must hold data files. It holds none (hidden files do not count).")
        return found
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if _is_data(Path(name)))
    if found:
        return found
    raise DataError(_missing(item, path))


def _is_data(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((".", "_"))


def _missing(item: str, path: Path) -> str:
    is_glob = glob.has_magic(item)
    rule = f"Pattern `{item}` matches no file" if is_glob else f"File `{item}` does not exist"
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    if folder != path.parent and not is_glob:
        return f"{rule}: folder `{path.parent}` does not exist (`{folder}` does)."
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    hint = f" Near names there: {', '.join(near)}." if near else f" It holds: {shortened(names)}."
    return f"{rule} in folder `{folder}`.{hint}"


def shortened(names: list[str], limit: int = 12) -> str:
    """The names in one line, the later ones as a count."""
    if not names:
        return "nothing"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
