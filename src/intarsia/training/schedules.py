"""Learning rates: pure functions from the number of updates done to a rate.

`step` counts updates that are already done, so the first update reads `schedule(0)`. A pure function needs no state
in a checkpoint: a resumed run reads the same rates. Formulas and defaults are EasyRec's; departures are named where
they are made.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

from intarsia.config.schema.training import (
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    LearningRate,
    ManualSteps,
    PolynomialDecay,
    TransformerRate,
)
from intarsia.core.errors import ConfigError

Schedule = Callable[[int], float]
"""Updates done -> learning rate."""


def make_schedule(rate: LearningRate, multiplier: float = 1.0) -> Schedule:
    """The schedule that a `learning_rate` message describes.

    Args:
        rate: The message; an empty one is a constant 0.002.
        multiplier: Factor of every rate (`embedding_learning_rate_multiplier` for tables).

    Raises:
        ConfigError: Two schedules are set, or the numbers of one contradict each other.
    """
    chosen = [name for name in type(rate).model_fields if getattr(rate, name) is not None]
    if len(chosen) > 1:
        raise ConfigError(
            f"`learning_rate` takes one schedule. Received {len(chosen)}: {', '.join(chosen)}. Keep one of them."
        )
    message = getattr(rate, chosen[0]) if chosen else ConstantRate()
    schedule = _make(message)
    if multiplier == 1.0:
        return schedule
    return lambda step: multiplier * schedule(step)


def _make(message: object) -> Schedule:
    match message:
        case ConstantRate():
            return constant(message)
        case ExponentialDecay():
            return exponential(message)
        case ManualSteps():
            return manual(message)
        case CosineDecay():
            return cosine(message)
        case PolynomialDecay():
            return polynomial(message)
        case TransformerRate():
            return transformer(message)
        case _:
            raise TypeError(f"no schedule is written for {type(message).__name__}")


def constant(message: ConstantRate) -> Schedule:
    """rate(t) = learning_rate."""
    rate = message.learning_rate
    return lambda step: rate


def exponential(message: ExponentialDecay) -> Schedule:
    """Exponential decay after a linear burn-in.

        t <  burnin_steps:  first + (initial - first) * t / burnin_steps
        t >= burnin_steps:  initial * decay_factor ** e,   e = (t - burnin_steps) / decay_steps

    where first = burnin_learning_rate. `staircase` rounds e down; the result is never below min_learning_rate. As in
    EasyRec, a burnin_learning_rate of 0 means that the burn-in holds the initial rate.
    """
    initial, first, warm = message.initial_learning_rate, message.burnin_learning_rate, message.burnin_steps
    start = first if first > 0 else initial

    def rate(step: int) -> float:
        if step < warm:
            value = start + (initial - start) * step / warm
        else:
            exponent = (step - warm) / message.decay_steps
            value = initial * message.decay_factor ** (math.floor(exponent) if message.staircase else exponent)
        return max(value, message.min_learning_rate)

    return rate


def manual(message: ManualSteps) -> Schedule:
    """The rate of the last entry whose step is reached, the initial rate before the first.

    With `warmup` the rate moves on a line from the initial rate at step 0 to the first entry's at its step.

    Raises:
        ConfigError: The entries' steps do not grow, or the first is 0 with `warmup`, or there is no entry.
    """
    steps = [entry.step for entry in message.schedule]
    rates = [message.initial_learning_rate, *(entry.learning_rate for entry in message.schedule)]
    if not steps:
        raise ConfigError("`manual_step_learning_rate.schedule` needs at least one entry. Received none.")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ConfigError(
            f"The steps of `manual_step_learning_rate.schedule` must grow. Received {steps}. Sort the entries and "
            "write each step once."
        )
    if steps[0] == 0:
        raise ConfigError(
            "The first entry of `manual_step_learning_rate.schedule` must come after step 0. Received step 0. "
            "Write its rate as `initial_learning_rate`."
        )

    def rate(step: int) -> float:
        if message.warmup and step < steps[0]:
            return rates[0] + (rates[1] - rates[0]) * step / steps[0]
        return rates[bisect_right(steps, step)]

    return rate


def cosine(message: CosineDecay) -> Schedule:
    """Linear warm-up, a plateau, then half a cosine.

        t <  w:      warmup + (base - warmup) * t / w
        t <= w + h:  base
        t <= total:  base / 2 * (1 + cos(pi * (t - w - h) / (total - w - h)))
        t >  total:  0

    with w = warmup_steps, h = hold_base_rate_steps. Loshchilov and Hutter 2017 (SGDR), without restarts.

    Raises:
        ConfigError: Warm-up and plateau are longer than total_steps, or the warm-up starts above the base.
    """
    base, first, total = message.learning_rate_base, message.warmup_learning_rate, message.total_steps
    warm, top = message.warmup_steps, message.warmup_steps + message.hold_base_rate_steps
    if top > total:
        raise ConfigError(
            "`cosine_decay_learning_rate` needs warmup_steps + hold_base_rate_steps <= total_steps. Received "
            f"{warm} + {message.hold_base_rate_steps} > {total}. Raise total_steps or shorten the warm-up."
        )
    if warm and first > base:
        raise ConfigError(
            "`cosine_decay_learning_rate` needs warmup_learning_rate <= learning_rate_base. Received "
            f"{first} > {base}. Lower warmup_learning_rate."
        )

    def rate(step: int) -> float:
        if step < warm:
            return first + (base - first) * step / warm
        if step > total:
            return 0.0
        if step <= top:
            return base
        return 0.5 * base * (1 + math.cos(math.pi * (step - top) / (total - top)))

    return rate


def polynomial(message: PolynomialDecay) -> Schedule:
    """rate(t) = (base - end) * (1 - min(t, total) / total) ** power + end."""
    base, end, total = message.learning_rate_base, message.end_learning_rate, message.total_steps

    def rate(step: int) -> float:
        return float((base - end) * (1 - min(step, total) / total) ** message.power + end)

    return rate


def transformer(message: TransformerRate) -> Schedule:
    """rate(t) = base * hidden_size ** -0.5 * min((s + 1) * w ** -1.5, (s + 1) ** -0.5).

    s = t * step_scaling_rate and w = warmup_steps * step_scaling_rate. Vaswani et al. 2017, section 5.3, where steps
    count from 1.
    """
    scale = message.step_scaling_rate
    factor = message.learning_rate_base * message.hidden_size**-0.5
    warm = message.warmup_steps * scale

    def rate(step: int) -> float:
        number = step * scale + 1
        return float(factor * min(number * warm**-1.5, number**-0.5))

    return rate
