from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from intarsia.core.batch import Dense, Jagged
from intarsia.core.errors import BuildError, CheckpointError, TrainingError
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec
from intarsia.nn.table_optim import (
    TABLE_OPTIMIZERS,
    SparseAdagrad,
    SparseFtrl,
    make_table_optimizer,
    scale_table_grads,
    table_grad_norm_sq,
)
from intarsia.nn.table_optim.gradients import sum_by_row

KINDS = list(TABLE_OPTIMIZERS)
ROWS, DIM = 30, 4
needs_fbgemm = pytest.mark.skipif(importlib.util.find_spec("fbgemm_gpu") is None, reason="FBGEMM is not installed")

# What torch's dense optimizers call the same thing.
DENSE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, eps=1e-8),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-4),
    "rms_prop": lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, momentum=0.6, eps=0.3),
}
OPTIONS: dict[str, dict[str, float]] = {
    "momentum": {"momentum": 0.7},
    "adam": {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4},
    "rms_prop": {"decay": 0.8, "momentum": 0.6, "eps": 0.3},
}


def build(seed: int = 0, backend: str = "torch", reverse: bool = False) -> EmbeddingCollection:
    """Two tables that are fused, one that is not; `item` is read as a single value, pooled, and as a sequence."""
    tables = [TableSpec("item", ROWS, DIM), TableSpec("user", ROWS, DIM), TableSpec("odd", ROWS, 8)]
    lookups = [
        Lookup("item", "item", "item"),
        Lookup("user", "user", "user"),
        Lookup("odd", "user", "odd"),
        Lookup("bag", "history", "item", "mean"),
        Lookup("steps", "history", "item", "none"),
    ]
    collection = EmbeddingCollection(tables=tables[::-1] if reverse else tables, lookups=lookups, backend=backend)
    generator = torch.Generator().manual_seed(seed)
    for table in tables:
        collection.weight(table.name).normal_(generator=generator)
    return collection


def draw(seed: int, batch: int = 16, rows: int = ROWS) -> dict[str, Dense | Jagged]:
    """Ids with repetitions, missing ones, and empty histories."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 4, (batch,), generator=g)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return {
        "item": Dense(torch.randint(-1, rows, (batch,), generator=g)),
        "user": Dense(torch.randint(0, rows, (batch,), generator=g)),
        "history": Jagged(torch.randint(0, rows, (int(offsets[-1]),), generator=g), offsets),
    }


def loss_of(out: dict[str, torch.Tensor | Jagged]) -> torch.Tensor:
    """Any smooth function of the vectors that couples nothing across tables."""
    total = torch.zeros(())
    for place, vectors in enumerate(out.values()):
        values = vectors.values if isinstance(vectors, Jagged) else vectors
        total = total + ((values - 0.3 * place).square() * (1 + 0.1 * place)).sum() / 10
    return total


def dense_loss(tables: dict[str, torch.Tensor], features: dict[str, Dense | Jagged]) -> torch.Tensor:
    """The same loss on full tables with dense gradients."""
    item, user, history = features["item"].values, features["user"].values, features["history"]
    owner = torch.arange(len(item)).repeat_interleave(history.lengths)
    steps = tables["item"][history.values]
    bag = torch.zeros(len(item), DIM).index_add(0, owner, steps) / history.lengths.clamp(min=1).unsqueeze(1)
    return loss_of(
        {
            "item": tables["item"][item.clamp(min=0)] * (item >= 0).unsqueeze(1),
            "user": tables["user"][user],
            "odd": tables["odd"][user],
            "bag": bag,
            "steps": steps,
        }
    )


def train(collection, optimizer, seeds, **kwargs) -> None:
    for seed in seeds:
        loss_of(collection(draw(seed, **kwargs))).backward()
        optimizer.step()
        optimizer.zero_grad()


def everything(batch: int) -> dict[str, Dense | Jagged]:
    """Every row of every table occurs."""
    ids = torch.arange(ROWS).repeat(2)
    return {
        "item": Dense(ids),
        "user": Dense(ids.flip(0)),
        "history": Jagged(ids[:batch].clone(), torch.arange(len(ids) + 1).clamp(max=batch)),
    }


class TestAgainstDenseOptimizers:
    @pytest.mark.parametrize("kind", ["sgd", "adagrad"])
    def test_always_where_untouched_rows_do_not_move_anyway(self, kind):
        self.compare(kind, [draw(seed) for seed in range(6)])

    @pytest.mark.parametrize("kind", list(DENSE))
    def test_where_every_row_occurs_in_every_batch(self, kind):
        self.compare(kind, [everything(batch) for batch in (7, 20, 31, 5, 11)])

    @staticmethod
    def compare(kind, batches):
        collection = build()
        tables = {name: collection.weight(name).clone().requires_grad_() for name in collection.table_names}
        optimizer = make_table_optimizer(collection, kind, lr=0.1, **OPTIONS.get(kind, {}))
        dense = DENSE[kind](list(tables.values()))
        for features in batches:
            loss_of(collection(features)).backward()
            optimizer.step()
            optimizer.zero_grad()
            dense.zero_grad()
            dense_loss(tables, features).backward()
            dense.step()
        for name, expected in tables.items():
            torch.testing.assert_close(collection.weight(name), expected.detach(), rtol=1e-5, atol=1e-5)

    def test_row_wise_adagrad_by_hand(self):
        collection = EmbeddingCollection(tables=[TableSpec("t", 3, 2)], lookups=[Lookup("k", "f", "t")])
        collection.weight("t").copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
        optimizer = make_table_optimizer(collection, "rowwise_adagrad", lr=0.5, initial_accumulator_value=0.5, eps=0.0)
        # Row 1 occurs twice: its gradient is (3, 4) + (0, 0); the sum becomes 0.5 + (9 + 16) / 2 = 13.
        out = collection({"f": Dense(torch.tensor([1, 1]))})["k"]
        out.backward(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        optimizer.step()
        expected = torch.tensor([[1.0, 1.0], [2 - 1.5 / 13**0.5, 2 - 2 / 13**0.5], [3.0, 3.0]])
        torch.testing.assert_close(collection.weight("t"), expected)
        assert optimizer.state_dict()["tables"]["t"]["sum"].tolist() == [0.5, 13.0, 0.5]

    def test_lazy_adam_counts_all_steps(self):
        """A row that first occurs in step 3 is corrected as in step 3."""
        collection = EmbeddingCollection(tables=[TableSpec("t", 2, 1)], lookups=[Lookup("k", "f", "t")])
        collection.weight("t").zero_()
        optimizer = make_table_optimizer(collection, "adam", lr=1.0, beta1=0.9, beta2=0.99, eps=1e-12)
        for row in (0, 0, 1):
            collection({"f": Dense(torch.tensor([row]))})["k"].sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        mean, variance = 0.1 / (1 - 0.9**3), 0.01 / (1 - 0.99**3)
        assert collection.weight("t")[1].item() == pytest.approx(-mean / variance**0.5, rel=1e-5)
        assert collection.weight("t")[0].item() == pytest.approx(-2.0, rel=1e-5)


class TestFtrl:
    def train(self, kind, **options):
        collection = build()
        for name in collection.table_names:
            collection.weight(name).zero_()
        optimizer = make_table_optimizer(collection, kind, lr=0.1, **options)
        train(collection, optimizer, range(6))
        return collection

    def test_without_regularization_from_zero_it_is_adagrad(self):
        # McMahan 2011, section 3: the two are one algorithm then.
        ftrl, adagrad = self.train("ftrl"), self.train("adagrad", eps=0.0)
        for name in ftrl.table_names:
            torch.testing.assert_close(ftrl.weight(name), adagrad.weight(name), rtol=1e-4, atol=1e-5)

    def test_a_power_other_than_the_root(self):
        root, other = self.train("ftrl"), self.train("ftrl", learning_rate_power=-0.4999999)
        torch.testing.assert_close(root.weight("item"), other.weight("item"), rtol=1e-4, atol=1e-5)
        constant = self.train("ftrl", learning_rate_power=0.0)
        torch.testing.assert_close(constant.weight("item"), self.train("sgd").weight("item"), rtol=1e-4, atol=1e-5)

    def test_l1_gives_zeros_and_more_of_them_with_more_of_it(self):
        zeros = [int((self.train("ftrl", l1_reg=l1).weight("odd") == 0).sum()) for l1 in (0.0, 0.3, 1e6)]
        assert zeros[0] < zeros[1] < zeros[2] == ROWS * 8

    @pytest.mark.parametrize("option", ["l2_reg", "l2_shrinkage_reg"])
    def test_l2_shrinks(self, option):
        norms = [self.train("ftrl", **{option: strength}).weight("odd").norm() for strength in (0.0, 1.0)]
        assert norms[1] < 0.95 * norms[0]

    def test_one_row_by_hand(self):
        collection = EmbeddingCollection(tables=[TableSpec("t", 1, 1)], lookups=[Lookup("k", "f", "t")])
        collection.weight("t").fill_(0.5)
        optimizer = SparseFtrl(collection, lr=0.1, initial_accumulator_value=0.25, l1_reg=0.2, l2_reg=0.5)
        (3 * collection({"f": Dense(torch.tensor([0]))})["k"]).sum().backward()
        optimizer.step()
        after = 0.25 + 9.0
        z = 3.0 - (after**0.5 - 0.25**0.5) / 0.1 * 0.5
        assert z < -0.2
        expected = (-0.2 - z) / (after**0.5 / 0.1 + 2 * 0.5)
        assert collection.weight("t").item() == pytest.approx(expected, rel=1e-5)

    def test_rate_zero_changes_nothing(self):
        collection = build()
        before = collection.state_dict()["tables.item"].clone()
        train(collection, make_table_optimizer(collection, "ftrl", lr=0.0), range(2))
        assert torch.equal(collection.weight("item"), before)


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_lowers_the_loss(self, kind):
        collection = build()
        optimizer = make_table_optimizer(collection, kind, lr=0.05)
        with torch.no_grad():
            before = loss_of(collection(draw(0)))
        train(collection, optimizer, [0] * 15)
        with torch.no_grad():
            assert loss_of(collection(draw(0))) < 0.8 * before

    @pytest.mark.parametrize("kind", KINDS)
    def test_rows_that_do_not_occur_keep_every_bit(self, kind):
        collection = build()
        optimizer = make_table_optimizer(collection, kind, lr=0.1)
        train(collection, optimizer, range(3))  # All rows have state now.
        weights = {name: collection.weight(name).clone() for name in collection.table_names}
        state = {t: {k: v.clone() for k, v in s.items()} for t, s in optimizer.state_dict()["tables"].items()}
        train(collection, optimizer, range(3, 6), rows=10)
        for name, before in weights.items():
            assert torch.equal(collection.weight(name)[10:], before[10:])
            assert not torch.equal(collection.weight(name)[:10], before[:10])
            for slot, values in optimizer.state_dict()["tables"][name].items():
                assert torch.equal(values[10:], state[name][slot][10:])
        for fused in collection.fused.values():
            assert not collection.fused_weight(fused.name)[fused.num_rows].any()

    @pytest.mark.parametrize("kind", KINDS)
    def test_runs_and_numbers_of_threads_give_the_same_bits(self, kind):
        results = []
        threads = torch.get_num_threads()
        try:
            for count in (1, 2, 2):
                torch.set_num_threads(count)
                collection = EmbeddingCollection(
                    tables=[TableSpec("t", 8_000, 18), TableSpec("u", 8_000, 18)],
                    lookups=[Lookup("k", "f", "t"), Lookup("j", "g", "u"), Lookup("b", "h", "u", "mean")],
                    generator=torch.Generator().manual_seed(1),
                )
                optimizer = make_table_optimizer(collection, kind, lr=0.1)
                g = torch.Generator().manual_seed(2)
                for _ in range(3):
                    ids = (torch.rand(3, 2403, generator=g).pow(2) * 8_000).long()
                    out = collection(
                        {"f": Dense(ids[0]), "g": Dense(ids[1]), "h": Jagged(ids[2], torch.arange(0, 2404, 3))}
                    )
                    (out["k"].square() + out["j"].pow(3)).sum().backward()
                    out["b"].square().sum().backward()
                    norm = table_grad_norm_sq(collection)
                    optimizer.step()
                    optimizer.zero_grad()
                results.append([norm, *collection.state_dict().values()])
        finally:
            torch.set_num_threads(threads)
        for other in results[1:]:
            assert all(torch.equal(left, right) for left, right in zip(results[0], other, strict=True))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("reverse", [False, True])
    def test_resumed_from_a_checkpoint(self, kind, reverse):
        whole = build()
        optimizer = make_table_optimizer(whole, kind, lr=0.1)
        train(whole, optimizer, range(3))
        weights = {key: value.clone() for key, value in whole.state_dict().items()}
        state = optimizer.state_dict()
        state["tables"] = {t: {k: v.clone() for k, v in slots.items()} for t, slots in state["tables"].items()}
        train(whole, optimizer, range(3, 6))

        resumed = build(seed=5, reverse=reverse)
        resumed.load_state_dict(weights)
        again = make_table_optimizer(resumed, kind, lr=7.0)
        again.load_state_dict(state)
        assert again.lr == 0.1
        train(resumed, again, range(3, 6))
        for name in whole.table_names:
            if reverse:  # Tables lie elsewhere, and gradients of several lookups are added in another order.
                torch.testing.assert_close(whole.weight(name), resumed.weight(name), rtol=1e-4, atol=1e-5)
            else:
                assert torch.equal(whole.weight(name), resumed.weight(name))

    @pytest.mark.parametrize("kind", KINDS)
    def test_two_backward_passes_are_one_larger_batch(self, kind):
        halves, whole = build(), build()
        first, second = (make_table_optimizer(c, kind, lr=0.1) for c in (halves, whole))
        for seed in range(3):
            left, right = draw(2 * seed), draw(2 * seed + 1)
            for part in (left, right):
                loss_of(halves(part)).backward()
            both = {
                "item": Dense(torch.cat([left["item"].values, right["item"].values])),
                "user": Dense(torch.cat([left["user"].values, right["user"].values])),
                "history": Jagged(
                    torch.cat([left["history"].values, right["history"].values]),
                    torch.cat([left["history"].offsets, right["history"].offsets[1:] + left["history"].offsets[-1]]),
                ),
            }
            loss_of(whole(both)).backward()
            for optimizer in (first, second):
                optimizer.step()
                optimizer.zero_grad()
        for name in whole.table_names:
            torch.testing.assert_close(halves.weight(name), whole.weight(name), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_frozen_and_other_groups_tables_stay(self, kind):
        tables = [TableSpec("a", 9, 4), TableSpec("b", 9, 4), TableSpec("c", 9, 4, group="wide")]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, "f", t.name) for t in tables])
        optimizer = make_table_optimizer(collection, kind, lr=0.1, groups=("deep",))
        collection.freeze(["b"])
        before = {name: collection.weight(name).clone() for name in "abc"}
        for _ in range(2):
            out = collection({"f": Dense(torch.arange(9))})
            sum(vector.square().sum() for vector in out.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert not torch.equal(collection.weight("a"), before["a"])
        assert torch.equal(collection.weight("b"), before["b"])
        assert torch.equal(collection.weight("c"), before["c"])
        assert list(optimizer.state_dict()["tables"]) == ["a", "b"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_steps_without_a_gradient_or_with_an_empty_batch(self, kind):
        collection = build()
        before = {key: value.clone() for key, value in collection.state_dict().items()}
        optimizer = make_table_optimizer(collection, kind, lr=0.1)
        optimizer.step()
        none = torch.empty(0, dtype=torch.int64)
        empty = {"item": Dense(none), "user": Dense(none), "history": Jagged(none, torch.tensor([0]))}
        loss_of(collection(empty)).backward()
        optimizer.step()
        missing = {"item": Dense(torch.tensor([-1, -1])), "user": Dense(torch.tensor([-1, -1]))}
        loss_of(collection({**missing, "history": Jagged(none, torch.tensor([0, 0, 0]))})).backward()
        optimizer.step()
        for key, value in collection.state_dict().items():
            assert torch.equal(value, before[key])

    def test_learning_rate_takes_effect_at_once(self):
        collection = build()
        optimizer = make_table_optimizer(collection, "sgd", lr=0.1)
        optimizer.set_lr(0.0)
        before = collection.weight("item").clone()
        train(collection, optimizer, [0])
        assert torch.equal(collection.weight("item"), before)
        optimizer.param_groups[0]["lr"] = 0.1
        train(collection, optimizer, [0])
        assert not torch.equal(collection.weight("item"), before)


class TestGradients:
    def test_sums_of_equal_ids(self):
        rng = np.random.default_rng(0)
        ids, values = rng.integers(0, 50, 400), rng.standard_normal((400, 3), dtype=np.float32)
        expected = np.zeros((51, 3))
        np.add.at(expected, ids, values)
        rows, sums = sum_by_row(torch.from_numpy(ids), torch.from_numpy(values), 49)  # Row 49 stands for missing.
        assert rows.tolist() == sorted(set(ids.tolist()) - {49})
        np.testing.assert_allclose(sums.numpy(), expected[rows.numpy()], atol=1e-5)

    def test_norm_is_that_of_the_dense_gradient(self):
        collection = build()
        tables = {name: collection.weight(name).clone().requires_grad_() for name in collection.table_names}
        for seed in (0, 1):
            loss_of(collection(draw(seed))).backward()
            dense_loss(tables, draw(seed)).backward()
        expected = sum(float(table.grad.square().sum()) for table in tables.values())
        assert float(table_grad_norm_sq(collection)) == pytest.approx(expected, rel=1e-5)
        assert float(table_grad_norm_sq([collection])) == pytest.approx(expected, rel=1e-5)  # Nothing is used up.
        assert float(table_grad_norm_sq(build())) == 0.0

    @pytest.mark.parametrize("measured", [False, True])
    def test_scaled_gradients_are_scaled_updates(self, measured):
        changes = []
        for factor in (1.0, 0.25):
            collection = build()
            before = collection.weight("item").clone()
            optimizer = make_table_optimizer(collection, "sgd", lr=0.1)
            loss_of(collection(draw(0))).backward()
            if measured:
                table_grad_norm_sq(collection)
            scale_table_grads(collection, torch.tensor(factor))
            optimizer.step()
            changes.append(collection.weight("item") - before)
        torch.testing.assert_close(changes[1], changes[0] * 0.25, rtol=1e-4, atol=1e-6)

    def test_measuring_changes_no_bit_of_the_update_and_accumulation_goes_on_after_it(self):
        weights = []
        for measure in (False, True):
            collection = build()
            optimizer = make_table_optimizer(collection, "adam", lr=0.1)
            loss_of(collection(draw(0))).backward()
            if measure:
                table_grad_norm_sq(collection)
            optimizer.step()
            weights.append(collection.weight("item").clone())
            loss_of(collection(draw(1))).backward()  # On top of the first: no zero_grad.
            optimizer.step()
            weights.append(collection.weight("item").clone())
        assert torch.equal(weights[0], weights[2])
        torch.testing.assert_close(weights[1], weights[3])

    def test_scaling_leaves_gradients_of_others_alone(self):
        collection = build()
        grad = torch.ones(2, DIM)
        out = collection({**draw(0, batch=2), "user": Dense(torch.tensor([1, 2]))})["user"]
        out.backward(grad)
        scale_table_grads(collection, 0.5)
        assert torch.equal(grad, torch.ones(2, DIM))
        make_table_optimizer(collection, "adam", lr=0.1).step()
        assert torch.equal(grad, torch.ones(2, DIM))

    def test_dense_gradients_are_refused(self):
        collection = build()
        collection.fused_weight("deep_8").square().sum().backward()
        with pytest.raises(
            TrainingError, match=r"tables are sparse. Received a dense one of shape \(31, 8\) for `odd`"
        ):
            make_table_optimizer(collection, "sgd", lr=0.1).step()


class TestErrors:
    def test_kind_and_options(self):
        with pytest.raises(BuildError, match=r"no table optimizer is called `adagard`. Did you mean `adagrad`"):
            make_table_optimizer(build(), "adagard", lr=0.1)
        with pytest.raises(BuildError, match=r"adagrad.epsilon: no such option. Did you mean `eps`"):
            make_table_optimizer(build(), "adagrad", lr=0.1, epsilon=0.1)
        with pytest.raises(BuildError, match=r"adam.beta1: .*less than 1. Received: 1.5"):
            make_table_optimizer(build(), "adam", lr=0.1, beta1=1.5)

    def test_groups_and_names(self):
        with pytest.raises(BuildError, match=r"no table is in the group `wide`. Groups: deep"):
            make_table_optimizer(build(), "sgd", lr=0.1, groups=("wide",))
        with pytest.raises(BuildError, match=r"different names. Received `item` twice"):
            make_table_optimizer([build(), build()], "sgd", lr=0.1)

    def test_state_of_something_else(self):
        optimizer = make_table_optimizer(build(), "adagrad", lr=0.1)
        with pytest.raises(CheckpointError, match=r"expected the state of SparseAdagrad, found that of LazyAdam"):
            optimizer.load_state_dict(make_table_optimizer(build(), "adam", lr=0.1).state_dict())
        state = optimizer.state_dict()
        state["tables"] = dict(state["tables"])
        state["tables"]["extra"] = state["tables"].pop("user")
        state["tables"]["item"] = {"sum": torch.zeros(3, DIM)}
        state["lr"] = 5.0
        with pytest.raises(CheckpointError) as caught:
            optimizer.load_state_dict(state)
        text = str(caught.value)
        assert "no state of the table `user`" in text
        assert "table `item`, `sum`: expected shape (30, 4), found (3, 4)" in text
        assert "state of an unknown table `extra`" in text
        assert optimizer.lr == 0.1


@needs_fbgemm
@pytest.mark.filterwarnings("ignore")
class TestFbgemm:
    KINDS = ("sgd", "adagrad", "rowwise_adagrad")

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_numbers_as_plain_torch(self, kind):
        results = []
        for backend in ("torch", "fbgemm"):
            collection = build(backend=backend)
            optimizer = make_table_optimizer(collection, kind, lr=0.1)
            train(collection, optimizer, range(4))
            optimizer.set_lr(0.03)
            train(collection, optimizer, range(4, 8))
            results.append((collection, optimizer.state_dict()))
        (plain, state), (fused, fused_state) = results
        for name in plain.table_names:
            torch.testing.assert_close(fused.weight(name), plain.weight(name), rtol=1e-4, atol=1e-5)
            for slot, values in state["tables"][name].items():
                torch.testing.assert_close(fused_state["tables"][name][slot], values, rtol=1e-4, atol=1e-5)
        for table in fused.fused.values():
            assert fused.fused_weight(table.name).grad is None
            assert not fused.fused_weight(table.name)[table.num_rows].any()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("backends", [("torch", "fbgemm"), ("fbgemm", "torch")])
    def test_checkpoints_move_between_backends(self, kind, backends):
        first = build(backend=backends[0])
        optimizer = make_table_optimizer(first, kind, lr=0.1)
        train(first, optimizer, range(3))
        second = build(seed=9, backend=backends[1], reverse=True)
        other = make_table_optimizer(second, kind, lr=1.0)
        second.load_state_dict(first.state_dict())
        other.load_state_dict(optimizer.state_dict())
        for collection, its in ((first, optimizer), (second, other)):
            train(collection, its, range(3, 6))
        for name in first.table_names:
            torch.testing.assert_close(second.weight(name), first.weight(name), rtol=1e-4, atol=1e-5)

    def test_pooling_weights_and_extremes(self):
        results = []
        for backend in ("torch", "fbgemm"):
            lookups = [Lookup(p, f"f{p}", "t", p) for p in ("sum", "mean", "sqrtn", "min", "max", "none")]
            collection = EmbeddingCollection(
                tables=[TableSpec("t", 9, 4)],
                lookups=lookups,
                backend=backend,
                generator=torch.Generator().manual_seed(0),
            )
            optimizer = make_table_optimizer(collection, "adagrad", lr=0.1)
            ids, offsets = torch.tensor([1, 1, 2, 8, 3]), torch.tensor([0, 3, 3, 5])
            weights = {"mean": torch.tensor([1.0, 0.5, 2.0, 3.0, 0.1]), "sqrtn": torch.full((5,), 0.5)}
            for _ in range(3):
                out = collection({f"f{k.key}": Jagged(ids, offsets, weights.get(k.key)) for k in lookups})
                loss_of(out).backward()
                optimizer.step()
                optimizer.zero_grad()
            results.append(collection.weight("t"))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)

    def test_one_backward_pass_for_each_step(self):
        collection = build(backend="fbgemm")
        optimizer = make_table_optimizer(collection, "sgd", lr=0.1)
        train(collection, optimizer, range(2))
        loss_of(collection(draw(0))).backward()
        with pytest.raises(TrainingError, match=r"one lookup and one backward pass for each step.*backend `torch`"):
            loss_of(collection(draw(1))).backward()

    def test_gradients_cannot_be_measured_or_scaled(self):
        collection = build(backend="fbgemm")
        make_table_optimizer(collection, "sgd", lr=0.1)
        for call in (table_grad_norm_sq, lambda c: scale_table_grads(c, 0.5)):
            with pytest.raises(TrainingError, match=r"neither measured nor scaled. Received tables `item`, `user`"):
                call(collection)

    def test_what_it_cannot_do(self):
        with pytest.raises(BuildError, match=r"`fbgemm`: FBGEMM updates tables with one of sgd.* Received `adam`"):
            make_table_optimizer(build(backend="fbgemm"), "adam", lr=0.1)
        with pytest.raises(BuildError, match=r"`fbgemm` with needs_gradients=True. Use backend `auto` or `torch`"):
            make_table_optimizer(build(backend="fbgemm"), "sgd", lr=0.1, needs_gradients=True)
        with pytest.raises(BuildError, match=r"tables `t`: FBGEMM's rows are multiples of 4 .* Received dim=6"):
            EmbeddingCollection(tables=[TableSpec("t", 3, 6)], lookups=[], backend="fbgemm")

    def test_auto_does_whatever_is_asked(self):
        for kind in KINDS:
            for needs_gradients in (False, True):
                collection = build(backend="auto")
                optimizer = make_table_optimizer(collection, kind, lr=0.05, needs_gradients=needs_gradients)
                plain = build()
                train(collection, optimizer, range(3))
                train(plain, make_table_optimizer(plain, kind, lr=0.05), range(3))
                torch.testing.assert_close(collection.weight("item"), plain.weight("item"), rtol=1e-4, atol=1e-5)

    def test_a_new_optimizer_and_a_copied_model_are_free_of_it(self):
        import copy

        collection = build(backend="fbgemm")
        make_table_optimizer(collection, "sgd", lr=0.1)
        copied = copy.deepcopy(collection)
        before = collection.weight("item").clone()
        train(copied, SparseAdagrad(copied, lr=0.1), range(2))
        assert torch.equal(collection.weight("item"), before)
        SparseAdagrad(collection, lr=0.1)
        loss_of(collection(draw(0))).backward()
        assert torch.equal(collection.weight("item"), before)
        assert collection.fused_weight("deep_4").grad.is_sparse

    def test_moved_tables_are_noticed(self):
        collection = build(backend="fbgemm")
        make_table_optimizer(collection, "sgd", lr=0.1)
        collection.fused_weight("deep_8").data = collection.fused_weight("deep_8").data.clone()
        with pytest.raises(TrainingError, match=r"moved after their optimizer was made"):
            collection(draw(0))


def test_fbgemm_missing(monkeypatch):
    from intarsia.core.errors import MissingExtraError
    from intarsia.nn.embedding import fbgemm

    monkeypatch.setattr(fbgemm, "fbgemm_installed", lambda: False)
    with pytest.raises(MissingExtraError, match=r"`fbgemm-gpu-cpu`, which is not installed. .*'intarsia\[fbgemm\]'"):
        build(backend="fbgemm")
