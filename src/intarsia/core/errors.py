"""The errors that intarsia raises on purpose.

Every message states the rule, what was received, and what to do about it. The command line prints them without a
traceback and exits with the class's `exit_code`; anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class IntarsiaError(Exception):
    """Base of all errors that a user can cause and cure."""

    exit_code = 1


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a pipeline file.

    `where` is `file:line` (or the option that set the value), `path` the place in the file such as
    `train_config.num_steps`.
    """

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        path = f"{self.path}: " if self.path else ""
        return f"{place}{path}{self.message}"


class ConfigError(IntarsiaError):
    """A pipeline file is wrong. Carries all its `problems`, found in one pass."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("", "", problems)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems:\n  "
        super().__init__(head + "\n  ".join(str(p) for p in self.problems))


class DataError(IntarsiaError):
    """Input data are missing, unreadable or break a declared rule."""

    exit_code = 3


class BuildError(ConfigError):
    """A model cannot be assembled: names, cycles or shapes do not fit."""

    exit_code = 2


class CheckpointError(IntarsiaError):
    """A checkpoint or bundle is damaged, of another model, or of another version."""

    exit_code = 4


class TrainingError(IntarsiaError):
    """Training cannot go on, for instance because the loss is not a number."""

    exit_code = 5


class EvaluationError(IntarsiaError):
    """Predictions cannot be measured, for instance because some are not numbers."""

    exit_code = 7


class MissingExtraError(IntarsiaError):
    """A feature needs an optional dependency that is not installed."""

    exit_code = 6

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs `{package}`, which is not installed. Run: pip install 'intarsia[{extra}]'")
