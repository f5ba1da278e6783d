"""SeqAugment: what each operation does to every row, and how often."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from intarsia.core.errors import BuildError
from intarsia.nn.catalogue import resolve
from intarsia.nn.seq_augment import SeqAugment

SHAPES = ((None, None, 2), (None,))
OFF = {"crop_rate": 1.0, "mask_rate": 0.0, "reorder_rate": 0.0}
MASKED = -7.0


def build(**rates: float) -> SeqAugment:
    module = SeqAugment.from_inputs(SHAPES, **{**OFF, **rates})
    if module.mask is not None:
        module.mask.data.fill_(MASKED)
    return module


def numbered(lengths: torch.Tensor, limit: int) -> torch.Tensor:
    """Steps numbered from 1 in their rows; padding is 1000, which nobody may see."""
    number = torch.arange(1.0, limit + 1).expand(len(lengths), limit)
    steps = torch.where(torch.arange(limit) < lengths[:, None], number, 1000.0)
    return steps.unsqueeze(-1).expand(-1, -1, 2).clone()


def kept(length: int, rate: float) -> int:
    return math.floor(length * rate + 1e-9)


Case = tuple[list[int], int, int]
cases = st.tuples(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.integers(1, 100), st.integers(0, 2**31))


def check_crop(case: Case) -> None:
    lengths, percent, seed = torch.tensor(case[0]), case[1], case[2]
    rate = min(percent, 99) / 100
    out, left = build(crop_rate=rate)((numbered(lengths, 12), lengths), torch.Generator().manual_seed(seed))
    for row, n, size in zip(out[..., 0], lengths.tolist(), left.tolist()):
        assert size == (max(1, kept(n, rate)) if n else 0)
        window = row[:size].tolist()
        assert window == [window[0] + i for i in range(size)] if size else True
        assert all(1 <= v <= n for v in window)
        assert not row[size:].any()


def check_mask(case: Case) -> None:
    lengths, rate, seed = torch.tensor(case[0]), case[1] / 100, case[2]
    out, left = build(mask_rate=rate)((numbered(lengths, 12), lengths), torch.Generator().manual_seed(seed))
    assert torch.equal(left, lengths)
    for row, n in zip(out[..., 0], lengths.tolist()):
        assert (row == MASKED).sum() == kept(n, rate)
        assert all(v in (MASKED, i + 1) for i, v in enumerate(row[:n].tolist()))
        assert not row[n:].any()


def check_reorder(case: Case) -> None:
    lengths, rate, seed = torch.tensor(case[0]), case[1] / 100, case[2]
    out, left = build(reorder_rate=rate)((numbered(lengths, 12), lengths), torch.Generator().manual_seed(seed))
    assert torch.equal(left, lengths)
    for row, n in zip(out[..., 0], lengths.tolist()):
        assert sorted(row[:n].tolist()) == list(range(1, n + 1))
        moved = [i for i, v in enumerate(row[:n].tolist()) if v != i + 1]
        assert not moved or moved[-1] - moved[0] < kept(n, rate)
        assert not row[n:].any()


@settings(max_examples=200)
@given(cases)
def test_every_row_is_what_its_operation_says(case):
    for check in (check_crop, check_mask, check_reorder):
        check(case)


@pytest.mark.fuzz
@settings(max_examples=10_000)
@given(cases)
def test_every_row_is_what_its_operation_says_long(case):
    for check in (check_crop, check_mask, check_reorder):
        check(case)


def test_rounding_loses_no_step():
    lengths = torch.tensor([100])
    out, _ = build(mask_rate=0.29)((numbered(lengths, 100), lengths))
    assert (out[0, :, 0] == MASKED).sum() == 29  # 100 * 0.29 is 28.999999999999996


def frequencies(values: torch.Tensor, count: int) -> torch.Tensor:
    return torch.bincount(values, minlength=count).double() / len(values)


def test_windows_and_positions_are_drawn_uniformly():
    torch.manual_seed(0)
    rows = 40_000
    lengths = torch.full((rows,), 5)
    steps = numbered(lengths, 8)
    cropped, _ = build(crop_rate=0.4)((steps, lengths))  # windows of 2 out of 5: 4 places
    start = frequencies(cropped[:, 0, 0].long() - 1, 4)
    torch.testing.assert_close(start, torch.full((4,), 0.25, dtype=torch.float64), atol=0.01, rtol=0)

    masked, _ = build(mask_rate=0.4)((steps, lengths))
    pair = (masked[:, :5, 0] == MASKED).long() @ (2 ** torch.arange(5))
    share = frequencies(pair, 32)[[i for i in range(32) if i.bit_count() == 2]]
    torch.testing.assert_close(share, torch.full((10,), 0.1, dtype=torch.float64), atol=0.01, rtol=0)

    shuffled, _ = build(reorder_rate=0.8)((steps, lengths))  # windows of 4: 2 places, 24 orders
    order = (shuffled[:, :5, 0].long() * 6 ** torch.arange(5)).sum(1)
    seen, counts = order.unique(return_counts=True)
    # 3! orders leave the first or the last of the four in place and are reached from one window only; the orders
    # that touch only the middle three are reached from both, so each window's 24 orders give 48 - 6 results.
    assert len(seen) == 42
    expected = torch.tensor([1 / 48, 2 / 48])
    share = counts / rows
    assert ((share[:, None] - expected).abs().amin(1) < 0.004).all()
    assert ((share - 2 / 48).abs() < 0.004).sum() == 6


def test_operations_are_equally_likely_and_drawn_per_row():
    torch.manual_seed(0)
    lengths = torch.full((30_000,), 10)
    module = build(crop_rate=0.2, mask_rate=0.5, reorder_rate=1.0)
    out, left = module((numbered(lengths, 10), lengths))
    crop = left == 2
    mask = (out[..., 0] == MASKED).any(1)
    assert not (crop & mask).any()
    assert crop.double().mean().item() == pytest.approx(1 / 3, abs=0.01)
    assert mask.double().mean().item() == pytest.approx(1 / 3, abs=0.01)
    reorder = ~crop & ~mask
    assert (out[reorder, :, 0].sort(1).values == torch.arange(1.0, 11)).all()


@pytest.mark.parametrize("rates", [{"crop_rate": 0.5, "mask_rate": 0.5}, {"mask_rate": 0.5, "reorder_rate": 1.0}])
def test_disabled_operations_are_not_drawn(rates):
    torch.manual_seed(0)
    lengths = torch.full((3000,), 10)
    out, left = build(**rates)((numbered(lengths, 10), lengths))
    assert (out[..., 0] == MASKED).any(1).double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (left == 5).any().item() == ("crop_rate" in rates)


def test_evaluation_and_all_off_are_the_identity():
    lengths = torch.tensor([3, 0, 2])
    steps = numbered(lengths, 4)
    module = SeqAugment.from_inputs(SHAPES)
    module.eval()
    assert module((steps, lengths))[0] is steps
    assert module((steps, lengths))[1] is lengths
    assert build()((steps, lengths))[0] is steps
    assert not list(build().parameters())


def test_garbage_in_padding_never_shows():
    lengths = torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(0))
    steps = numbered(lengths, 8)
    dirty = torch.where(steps == 1000, torch.nan, steps)
    module = SeqAugment.from_inputs(SHAPES)
    out = module((steps, lengths), torch.Generator().manual_seed(1))
    again = module((dirty, lengths), torch.Generator().manual_seed(1))
    assert torch.equal(out[0], again[0])
    assert torch.equal(out[1], again[1])


def test_draws_come_from_the_generator_or_torch():
    lengths = torch.full((50,), 8)
    inputs = (numbered(lengths, 8), lengths, None)
    module = SeqAugment.from_inputs(SHAPES)
    torch.manual_seed(5)
    first = module(inputs)[0]
    second = module(inputs)[0]
    torch.manual_seed(5)
    assert torch.equal(module(inputs)[0], first)
    assert not torch.equal(first, second)
    torch.manual_seed(6)
    same = [module(inputs, torch.Generator().manual_seed(3))[0] for _ in range(2)]
    assert torch.equal(*same)


def test_gradients_reach_the_mask_and_the_steps_that_stay():
    torch.manual_seed(0)
    lengths = torch.full((200,), 6)
    steps = numbered(lengths, 6).requires_grad_()
    module = SeqAugment.from_inputs(SHAPES, crop_rate=1.0, reorder_rate=0.0, mask_rate=0.5)
    out, _ = module((steps, lengths))
    out.sum().backward()
    assert module.mask.grad.tolist() == [600.0, 600.0]
    assert (steps.grad[..., 0] == 0).sum() == 600


def test_alias_and_default_rates():
    module = resolve("SeqAugmentOps").cls.from_inputs((*SHAPES, None))
    assert isinstance(module, SeqAugment)
    assert (module.mask_rate, module.crop_rate, module.reorder_rate) == (0.6, 0.2, 0.6)
    assert [tuple(p.shape) for p in module.parameters()] == [(2,)]


def test_no_work_per_row():
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            return func(*args, **(kwargs or {}))

    module = SeqAugment(dim=4)
    calls = []
    for rows in (2, 500):
        with Count() as count:
            module((torch.randn(rows, 10, 4), torch.randint(0, 11, (rows,))))
        calls.append(count.calls)
    assert calls[0] == calls[1] < 150


def test_shape_error():
    with pytest.raises(BuildError, match=r"`SeqAugment` reads a sequence.*left out\. Received: \(B, 2\)"):
        SeqAugment.from_inputs((None, 2))
