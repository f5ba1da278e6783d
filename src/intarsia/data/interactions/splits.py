"""Dividing a log into training, validation and test parts. The log is split first; sequences are made after.

Inside of each user the interactions stand part after part, each part in the order of time, so everything that follows
is a window `items[start:end]`:

    user u   | input (train) ......... | valid | test |
             ^train_start     train_end^
    a query of the test part:  history = what stands before its targets, targets = the test window
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from intarsia.config.schema import SplitConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.interactions import Interactions, Ints

TRAIN, VALID, TEST, INPUT = 0, 1, 2, -1
_ENOUGH = 1
"""Interactions that a user keeps for training when the last ones are taken away."""
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Queries:
    """Q people to rank items for.

    Attributes:
        users: (Q,) user numbers.
        starts: (Q,) first interaction of the history.
        ends: (Q,) end of the history.
        target_starts: (Q,) first interaction to predict.
        target_ends: (Q,) end of those.
    """

    users: Ints
    starts: Ints
    ends: Ints
    target_starts: Ints
    target_ends: Ints

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Division:
    """A log and its parts.

    Attributes:
        log: The log; in random splits its interactions are rearranged inside of each user, part after part.
        train_starts: (U,) first training interaction of each user.
        train_ends: (U,) end of those. Users without training interactions have `train_starts == train_ends`.
        queries: `valid` and `test`, where there are such.
        by: How the log was divided, in words that a protocol can be compared by.
        ordered: Whether every history lies before its targets in time.
    """

    log: Interactions
    train_starts: Ints
    train_ends: Ints
    queries: dict[str, Queries]
    by: str
    ordered: bool

    @property
    def num_training(self) -> int:
        """Training interactions."""
        return int((self.train_ends - self.train_starts).sum())

    def item_counts(self) -> Ints:
        """(N,) training interactions of each item."""
        log = self.log
        if self.num_training == log.num_interactions:
            return _counts(log.items, log.num_items)
        edge = np.zeros(log.num_interactions + 1, dtype=np.int8)
        full = self.train_ends > self.train_starts
        np.add.at(edge, self.train_starts[full], 1)
        np.add.at(edge, self.train_ends[full], -1)
        inside = np.cumsum(edge[:-1], dtype=np.int8) > 0
        return _counts(log.items[inside], log.num_items)


def _counts(items: npt.NDArray[np.int32], num_items: int) -> Ints:
    """(N,) occurrences of each item; in blocks, since `bincount` makes a wide copy of what it counts."""
    counts = np.zeros(num_items, dtype=np.int64)
    size = max(_BLOCK, num_items)
    for begin in range(0, len(items), size):
        counts += np.bincount(items[begin : begin + size], minlength=num_items)
    return counts


def split_interactions(log: Interactions, config: SplitConfig, seed: int) -> Division:
    """Divides a log.

    - `files`: as it came (ready-made parts).
    - `leave_one_out`: of each user the last `test` interactions, before them `valid`; users who would keep none stay in
      training as a whole.
    - `time`: one point in time for all; the last `test` share of all interactions, before it the `valid` share.
    - `time_by_user`: of each user the last `test` share, before it the `valid` share.
    - `random`, `random_by_user`, `random_by_item`: shares at random, of all, of each user's, of each item's.
    - `user`: disjoint users. A validation or test user's first `input_share` is the history, the rest the targets.
    - `k_fold`: interactions at random in `folds` parts; `fold` is the test part, the next one the validation part
      where `valid` is not 0.

    Args:
        log: The log.
        config: How.
        seed: Of random choices, which depend on nothing else.

    Raises:
        DataError: A part would be empty, the split needs times and the log has none, or a number is out of range.
    """
    if log.parts is not None or config.by == "files":
        if log.parts is None:
            raise DataError(
                "split by files needs ready-made parts: eval_input_path or test_input_path beside train_input_path. "
                "Received one log. Give the files, or choose another split."
            )
        return _division(log, _ends(log, log.parts), config, "files", ordered=True)
    _check(config)
    if config.by == "user":
        return _by_user(log, config, seed)
    rng = np.random.default_rng([seed, 0x5917])
    if config.by in ("leave_one_out", "time", "time_by_user"):
        ends = {"leave_one_out": _last, "time": _one_point, "time_by_user": _last_share}[config.by](log, config)
        return _division(log, ends, config, _words(config), ordered=True)
    parts = _random(log, config, rng)
    key = log.user_of.astype(np.int64) * 3 + parts
    order = np.argsort(key, kind="stable")
    ends = _ends(log, parts[order])
    return _division(_rearranged(log, order), ends, config, f"{_words(config)} seed {seed}", ordered=False)


def _check(config: SplitConfig) -> None:
    counts = config.by == "leave_one_out"
    if counts and (config.valid % 1 or config.test % 1):
        raise DataError(
            "split by leave_one_out counts interactions of each user, so valid and test are whole numbers. Received: "
            f"valid {config.valid}, test {config.test}. Set both to 1, for instance."
        )
    if not counts and config.by != "k_fold" and config.valid + config.test >= 1:
        raise DataError(
            f"the shares of valid and test must leave interactions for training. Received: {config.valid} + "
            f"{config.test}."
        )
    if config.by == "k_fold" and config.fold >= config.folds:
        raise DataError(f"fold counts from 0 to folds - 1. Received: fold {config.fold} of {config.folds} folds.")


def _words(config: SplitConfig) -> str:
    if config.by == "k_fold":
        return f"k_fold {config.fold} of {config.folds}"
    return f"{config.by} valid {config.valid:g} test {config.test:g}"


def _last(log: Interactions, config: SplitConfig) -> _Ends:
    valid, test = int(config.valid), int(config.test)
    taken = log.lengths >= valid + test + _ENOUGH
    return _taken_away(log, np.where(taken, valid, 0), np.where(taken, test, 0))


def _last_share(log: Interactions, config: SplitConfig) -> _Ends:
    valid, test = (np.floor(log.lengths * share + 1e-9).astype(np.int64) for share in (config.valid, config.test))
    return _taken_away(log, valid, test)


def _taken_away(log: Interactions, valid: Ints, test: Ints) -> _Ends:
    """Ends of the parts where (U,) last interactions of each user are for validation and testing."""
    ends = log.offsets[1:]
    return _Ends(log.offsets[:-1], ends - test - valid, ends - test, ends)


def _one_point(log: Interactions, config: SplitConfig) -> _Ends:
    if log.times is None:
        raise DataError("split by time needs log.time_field. Name the column, or split by another rule.")
    ordered = np.sort(log.times)
    part = np.zeros(len(ordered), dtype=np.int8)
    for number, share in ((VALID, config.valid + config.test), (TEST, config.test)):
        if share:
            part[log.times >= ordered[min(len(ordered) - 1, round(len(ordered) * (1 - share)))]] = number
    return _ends(log, part)


def _random(log: Interactions, config: SplitConfig, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    count = log.num_interactions
    if config.by == "k_fold":
        fold = np.empty(count, dtype=np.int64)
        fold[rng.permutation(count)] = np.arange(count) % config.folds
        part = np.where(fold == config.fold, TEST, TRAIN)
        if config.valid:
            part[fold == (config.fold + 1) % config.folds] = VALID
        return part.astype(np.int8)
    if not config.valid and not config.test:
        return np.full(count, TRAIN, dtype=np.int8)
    group: dict[str, npt.NDArray[np.integer[Any]]] = {
        "random": np.zeros(count, dtype=np.int64),
        "random_by_user": log.user_of,
        "random_by_item": log.items,
    }
    of = group[config.by]
    order = np.lexsort((rng.random(count), of))
    sizes = np.bincount(of)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(count, dtype=np.int64)  # position inside of the group, in random order
    place[order] = np.arange(count) - np.repeat(starts, sizes)
    test = np.rint(sizes * config.test)[of]
    valid = np.rint(sizes * config.valid)[of]
    return np.where(place < test, TEST, np.where(place < test + valid, VALID, TRAIN)).astype(np.int8)


def _by_user(log: Interactions, config: SplitConfig, seed: int) -> Division:
    rng = np.random.default_rng([seed, 0x5917])
    order = rng.permutation(log.num_users)
    test, valid = round(log.num_users * config.test), round(log.num_users * config.valid)
    training = np.ones(log.num_users, dtype=bool)
    training[order[: test + valid]] = False
    starts, ends = log.offsets[:-1], log.offsets[1:]
    queries = {}
    for name, users in (("valid", order[test : test + valid]), ("test", order[:test])):
        users = np.sort(users)
        # At least one interaction is given and one is asked for.
        cut = starts[users] + np.maximum(1, np.floor(log.lengths[users] * config.input_share + 1e-9).astype(np.int64))
        asked = cut < ends[users]
        users, cut = users[asked], cut[asked]
        if len(users):
            queries[name] = Queries(users, starts[users], cut, cut, ends[users])
    division = Division(
        log,
        starts,
        np.where(training, ends, starts),
        queries,
        f"{_words(config)} input {config.input_share:g} seed {seed}",
        ordered=True,
    )
    return _refuse_empty(division, config)


class _Ends(NamedTuple):
    """(U,) ends of each user's parts, which follow each other; input begins where the user does."""

    given: Ints
    train: Ints
    valid: Ints
    test: Ints


def _ends(log: Interactions, parts: npt.NDArray[np.int8]) -> _Ends:
    """Ends of the parts where (S,) interactions say theirs, in the order input, train, valid, test of each user."""
    below = np.zeros(len(parts) + 1, dtype=np.int64)

    def ends_of(last: int) -> Ints:
        np.cumsum(parts <= last, out=below[1:])
        return log.offsets[:-1] + below[log.offsets[1:]] - below[log.offsets[:-1]]

    return _Ends(ends_of(INPUT), ends_of(TRAIN), ends_of(VALID), log.offsets[1:])


def _division(log: Interactions, ends: _Ends, config: SplitConfig, by: str, *, ordered: bool) -> Division:
    begins, (given, train, valid, test) = log.offsets[:-1], ends
    queries = {}
    for name, first, last in (("valid", train, valid), ("test", valid, test)):
        users = np.flatnonzero(last > first)
        history = first if name == "valid" or config.valid_in_test_history else train
        if len(users):
            queries[name] = Queries(users, begins[users], history[users], first[users], last[users])
    return _refuse_empty(Division(log, given, train, queries, by, ordered), config)


def _refuse_empty(division: Division, config: SplitConfig) -> Division:
    wanted = {"valid": config.valid, "test": config.test} if division.by != "files" else {}
    empty = [name for name, share in wanted.items() if share and name not in division.queries]
    empty += [] if division.num_training else ["train"]
    if empty:
        raise DataError(
            f"split by {config.by} leaves nothing for: {', '.join(empty)}. Received: "
            f"{division.log.num_interactions} interactions of {division.log.num_users} users, valid {config.valid:g}, "
            f"test {config.test:g}. Choose other shares, or set the empty part to 0."
        )
    return division


def _rearranged(log: Interactions, order: Ints) -> Interactions:
    return replace(
        log,
        items=log.items[order],
        ratings=None if log.ratings is None else log.ratings[order],
        times=None if log.times is None else log.times[order],
        context={name: column.gather(order) for name, column in log.context.items()},
    )
