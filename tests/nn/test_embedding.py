from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.core.batch import Dense, Jagged
from intarsia.core.errors import BuildError, DataError
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec, concat_vectors

POOLINGS = ("sum", "mean", "sqrtn", "min", "max")


def jagged(rows: list[list[int]], weights: list[list[float]] | None = None) -> Jagged:
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    values = torch.tensor([value for row in rows for value in row], dtype=torch.int64)
    flat = None if weights is None else torch.tensor([w for row in weights for w in row], dtype=torch.float32)
    return Jagged(values, offsets, flat)


def one_table(pooling: str, num_rows: int = 5, dim: int = 2, step_pooling: str = "sum") -> EmbeddingCollection:
    collection = EmbeddingCollection(
        tables=[TableSpec("t", num_rows, dim)], lookups=[Lookup("out", "x", "t", pooling, step_pooling)]
    )
    collection.weight("t").copy_(torch.arange(num_rows * dim).view(num_rows, dim) + 1.0)
    return collection


class TestSingleValues:
    def test_rows_and_missing_ids(self):
        # Rows of the table: [1, 2], [3, 4], [5, 6], [7, 8], [9, 10].
        out = one_table("sum")({"x": Dense(torch.tensor([4, -1, 0]))})["out"]
        assert torch.equal(out, torch.tensor([[9.0, 10.0], [0.0, 0.0], [1.0, 2.0]]))

    def test_every_feature_reads_its_own_table(self):
        tables = [
            TableSpec("a", 3, 4),
            TableSpec("wide", 5, 4, group="wide"),
            TableSpec("b", 2, 4),
            TableSpec("c", 4, 3),
        ]
        lookups = [Lookup(f"{t.name}/{f}", f, t.name) for t in tables for f in ("f", "g")]
        collection = EmbeddingCollection(tables=tables, lookups=lookups)
        features = {"f": Dense(torch.tensor([1, 0, 1, -1])), "g": Dense(torch.tensor([0, 1, -1, 1]))}
        out = collection(features)
        assert list(out) == [lookup.key for lookup in lookups]
        for lookup in lookups:
            ids = features[lookup.feature].values
            expected = collection.weight(lookup.table)[ids.clamp(min=0)] * (ids >= 0).unsqueeze(1)
            assert torch.equal(out[lookup.key], expected)

    def test_ids_that_are_columns_of_one_matrix(self):
        tables = [TableSpec(f"t{place}", 10, 4) for place in range(3)]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(f"k{p}", f"f{p}", f"t{p}") for p in range(3)])
        ids = torch.randint(-1, 10, (6, 3))
        together = collection({f"f{p}": Dense(ids[:, p]) for p in range(3)})
        apart = collection({f"f{p}": Dense(ids[:, p].clone()) for p in range(3)})
        for key in together:
            assert torch.equal(together[key], apart[key])

    def test_features_of_different_batch_sizes(self):
        collection = EmbeddingCollection(
            tables=[TableSpec("user", 4, 2), TableSpec("item", 6, 2)],
            lookups=[Lookup("u", "u", "user"), Lookup("i", "i", "item"), Lookup("i2", "i", "item")],
        )
        out = collection({"u": Dense(torch.tensor([3, 1])), "i": Dense(torch.tensor([5, 0, 5]))})
        assert torch.equal(out["u"], collection.weight("user")[[3, 1]])
        assert torch.equal(out["i"], collection.weight("item")[[5, 0, 5]])
        assert out["i2"] is out["i"]  # Asked for twice, read once.

    def test_empty_batch(self):
        collection = EmbeddingCollection(
            tables=[TableSpec("t", 4, 2)],
            lookups=[Lookup("a", "a", "t"), Lookup("b", "b", "t", "mean"), Lookup("c", "b", "t", "none")],
        )
        none = torch.empty(0, dtype=torch.int64)
        out = collection({"a": Dense(none), "b": Jagged(none, torch.tensor([0]))})
        assert out["a"].shape == (0, 2)
        assert out["b"].shape == (0, 2)
        assert out["c"].values.shape == (0, 2)
        (out["a"].sum() + out["b"].sum() + out["c"].values.sum()).backward()


class TestPooling:
    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ("sum", [[5.0, 8.0], [0.0, 0.0], [9.0, 10.0]]),
            ("mean", [[5 / 3, 8 / 3], [0.0, 0.0], [9.0, 10.0]]),
            ("sqrtn", [[5 / 3**0.5, 8 / 3**0.5], [0.0, 0.0], [9.0, 10.0]]),
            ("min", [[1.0, 2.0], [0.0, 0.0], [9.0, 10.0]]),
            ("max", [[3.0, 4.0], [0.0, 0.0], [9.0, 10.0]]),
        ],
    )
    def test_by_hand(self, pooling, expected):
        out = one_table(pooling)({"x": jagged([[0, 0, 1], [], [4]])})["out"]
        torch.testing.assert_close(out, torch.tensor(expected))

    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ("sum", [3 * 1 + 1 * 3, 3 * 2 + 1 * 4]),
            ("mean", [6 / 4, 10 / 4]),
            ("sqrtn", [6 / 10**0.5, 10 / 10**0.5]),
        ],
    )
    def test_weights_by_hand(self, pooling, expected):
        out = one_table(pooling)({"x": jagged([[0, 1], []], [[3.0, 1.0], []])})["out"]
        torch.testing.assert_close(out, torch.tensor([expected, [0.0, 0.0]]))

    def test_mean_leaves_out_weights_that_are_not_positive_and_sum_does_not(self):
        x = jagged([[0, 1], [2]], [[2.0, -1.0], [0.0]])
        torch.testing.assert_close(one_table("mean")({"x": x})["out"], torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
        torch.testing.assert_close(one_table("sum")({"x": x})["out"], torch.tensor([[-1.0, 0.0], [0.0, 0.0]]))

    def test_none_keeps_the_steps(self):
        x = jagged([[0, 1], [], [1]], [[0.5, 2.0], [], [1.0]])
        out = one_table("none")({"x": x})["out"]
        assert torch.equal(out.values, torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]))
        assert torch.equal(out.offsets, x.offsets)
        assert torch.equal(out.weights, x.weights)

    def test_steps_with_several_ids(self):
        # Two rows: steps {0, 1}, {} and step {4}.
        x = Jagged(torch.tensor([0, 1, 4]), torch.tensor([0, 2, 3]), None, torch.tensor([0, 2, 2, 3]))
        steps = one_table("none", step_pooling="mean")({"x": x})["out"]
        assert torch.equal(steps.values, torch.tensor([[2.0, 3.0], [0.0, 0.0], [9.0, 10.0]]))
        assert torch.equal(steps.offsets, x.offsets)
        assert steps.inner_offsets is None
        most = one_table("max", step_pooling="min")({"x": x})["out"]
        assert torch.equal(most, torch.tensor([[1.0, 2.0], [9.0, 10.0]]))
        halved = one_table("mean", step_pooling="sum")({"x": x})["out"]
        assert torch.equal(halved, torch.tensor([[2.0, 3.0], [9.0, 10.0]]))

    def test_weights_of_steps_follow_the_steps_pooling(self):
        x = Jagged(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([3.0, 1.0]), torch.tensor([0, 2]))
        out = one_table("sum", step_pooling="mean")({"x": x})["out"]
        torch.testing.assert_close(out, torch.tensor([[6 / 4, 10 / 4]]))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_many_lookups_at_once_equal_each_on_its_own(self, data):
        self._compare(data)

    @pytest.mark.fuzz
    @settings(max_examples=10_000, deadline=None)
    @given(data=st.data())
    def test_many_lookups_at_once_equal_each_on_its_own_long(self, data):
        self._compare(data)

    @staticmethod
    def _compare(data):
        """Against plain loops over the rows."""
        batch = data.draw(st.integers(1, 4))
        tables = [TableSpec("a", 4, 3), TableSpec("b", 3, 3), TableSpec("c", 5, 2)]
        lookups, features = [], {}
        for number in range(data.draw(st.integers(1, 5))):
            table = data.draw(st.sampled_from(tables))
            pooling = data.draw(st.sampled_from([*POOLINGS, "none"]))
            lookups.append(Lookup(f"k{number}", f"f{number}", table.name, pooling))
            ids = st.integers(0, table.num_rows - 1)
            if data.draw(st.booleans()):
                row = data.draw(st.lists(st.integers(-1, table.num_rows - 1), min_size=batch, max_size=batch))
                features[f"f{number}"] = Dense(torch.tensor(row))
            else:
                rows = data.draw(st.lists(st.lists(ids, max_size=4), min_size=batch, max_size=batch))
                weights = [[0.5 + value for value in row] for row in rows] if data.draw(st.booleans()) else None
                features[f"f{number}"] = jagged(rows, weights)
        collection = EmbeddingCollection(tables=tables, lookups=lookups)
        out = collection(features)
        for lookup in lookups:
            got = out[lookup.key]
            expected = by_rows(collection.weight(lookup.table), features[lookup.feature], lookup.pooling)
            torch.testing.assert_close(got.values if isinstance(got, Jagged) else got, expected)


def by_rows(table: torch.Tensor, feature: Dense | Jagged, pooling: str) -> torch.Tensor:
    zero = torch.zeros(table.shape[1])
    if isinstance(feature, Dense):
        return torch.stack([table[i] if i >= 0 else zero for i in feature.values.tolist()])
    if pooling == "none":
        return table[feature.values]
    out = []
    for start, end in zip(feature.offsets[:-1].tolist(), feature.offsets[1:].tolist(), strict=True):
        vectors = table[feature.values[start:end]]
        weights = torch.ones(end - start) if feature.weights is None else feature.weights[start:end]
        if start == end:
            out.append(zero)
        elif pooling in ("min", "max"):
            out.append(getattr(vectors, pooling)(0).values)
        else:
            total = (vectors * weights.unsqueeze(1)).sum(0)
            by = {"sum": 1.0, "mean": weights.sum(), "sqrtn": weights.square().sum().sqrt()}[pooling]
            out.append(total / by)
    return torch.stack(out)


class TestGradients:
    @pytest.mark.parametrize("pooling", [*POOLINGS, "none"])
    def test_equals_autograd_through_a_dense_table(self, pooling):
        torch.manual_seed(0)
        collection = EmbeddingCollection(
            tables=[TableSpec("other", 3, 4), TableSpec("t", 6, 4)],
            lookups=[Lookup("one", "one", "t"), Lookup("many", "many", "t", pooling), Lookup("o", "one", "other")],
        )
        weights = None if pooling in ("min", "max", "none") else [[1.0, 0.5, 2.0], [], [3.0]]
        features = {"one": Dense(torch.tensor([2, -1, 2])), "many": jagged([[2, 2, 5], [], [0]], weights)}
        dense = collection.weight("t").clone().requires_grad_()
        out = collection(features)
        many = out["many"].values if pooling == "none" else out["many"]
        (out["one"].pow(3).sum() + many.pow(2).sum() + out["o"].sum()).backward()
        (
            by_rows(dense, features["one"], "sum").pow(3).sum() + by_rows(dense, features["many"], pooling).pow(2).sum()
        ).backward()
        grad = collection.fused_weight("deep_4").grad
        assert grad.is_sparse
        torch.testing.assert_close(grad.to_dense()[3:9], dense.grad)

    def test_holds_the_rows_of_the_batch_only(self):
        collection = EmbeddingCollection(tables=[TableSpec("t", 1_000_000, 4)], lookups=[Lookup("k", "f", "t")])
        collection({"f": Dense(torch.tensor([7, 7, 999_999]))})["k"].sum().backward()
        grad = collection.fused_weight("deep_4").grad
        assert grad._values().shape == (3, 4)
        assert grad._indices().tolist() == [[7, 7, 999_999]]

    def test_frozen_tables_get_none(self):
        tables = [TableSpec("a", 3, 2), TableSpec("b", 3, 2), TableSpec("c", 3, 3)]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, "f", t.name) for t in tables])
        collection.freeze(["b", "c"])
        assert collection.frozen == {"b", "c"}
        out = collection({"f": Dense(torch.tensor([0, 2]))})
        assert out["a"].requires_grad
        assert not out["b"].requires_grad
        assert torch.equal(out["b"], collection.weight("b")[[0, 2]])
        assert [p.requires_grad for p in collection.parameters()] == [True, False]
        out["a"].sum().backward()
        assert collection.fused_weight("deep_2").grad._indices().tolist() == [[0, 2]]
        collection.freeze(["b", "c"], frozen=False)
        assert all(vector.requires_grad for vector in collection({"f": Dense(torch.tensor([0, 2]))}).values())

    def test_autocast_leaves_float32(self):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = one_table("mean")({"x": jagged([[0, 1]])})["out"]
        assert out.dtype == torch.float32


class TestConcat:
    def test_no_copy_there_and_back(self):
        tables = [TableSpec(f"t{p}", 9, 4) for p in range(3)]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, t.name, t.name) for t in tables])
        out = collection({t.name: Dense(torch.randint(9, (5,))) for t in tables})
        joined = concat_vectors(list(out.values()))
        assert torch.equal(joined, torch.cat(list(out.values()), dim=1))
        assert joined.data_ptr() == out["t0"].data_ptr()
        grad = torch.randn(5, 12)
        joined.backward(grad)
        assert collection.fused_weight("deep_4").grad._values().data_ptr() == grad.data_ptr()

    def test_gradients_equal_those_of_cat(self):
        torch.manual_seed(0)
        tables = [TableSpec(f"t{p}", 9, 4) for p in range(4)]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, t.name, t.name) for t in tables])
        features = {t.name: Dense(torch.randint(9, (5,))) for t in tables}
        numbers, grad = torch.randn(5, 3), torch.randn(5, 19)
        grads = []
        for join in (concat_vectors, lambda parts: torch.cat(parts, dim=-1)):
            out = collection(features)
            # Not neighbours: t3 stands before t2, numbers come between.
            parts = [out["t0"], out["t1"], numbers, out["t3"], out["t2"]]
            joined = join(parts)
            (joined * grad).sum().backward()
            grads.append(collection.fused_weight("deep_4").grad.to_dense())
            collection.zero_grad()
        assert torch.equal(*grads)

    def test_a_vector_that_is_used_twice(self):
        collection = one_table("sum", dim=3)
        out = collection({"x": Dense(torch.tensor([0, 4]))})["out"]
        (concat_vectors([out, out]).sum() + out.sum()).backward()
        assert collection.fused_weight("deep_3").grad.to_dense().sum(1).tolist() == [9.0, 0, 0, 0, 9.0, 0]

    def test_rows_of_one_matrix_that_only_touch_are_copied(self):
        base = torch.arange(12.0).view(3, 4)
        left, right = base[:2, 2:], base[1:, :2]  # `right` starts in memory where `left`'s first row ends.
        assert torch.equal(concat_vectors([left, right]), torch.cat([left, right], dim=1))

    def test_changing_the_result_in_place_is_refused(self):
        tables = [TableSpec(f"t{p}", 9, 4) for p in range(2)]
        collection = EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, t.name, t.name) for t in tables])
        joined = concat_vectors(list(collection({t.name: Dense(torch.tensor([1])) for t in tables}).values()))
        with pytest.raises(RuntimeError, match=r"modified inplace"):
            joined.relu_()


class TestErrors:
    def test_names_and_sizes_all_at_once(self):
        with pytest.raises(BuildError) as caught:
            EmbeddingCollection(
                tables=[TableSpec("user", 3, 4), TableSpec("user", 3, 4), TableSpec("item", 0, 4)],
                lookups=[Lookup("k", "f", "iten"), Lookup("k", "f", "user", "median")],
            )
        text = str(caught.value)
        assert len(caught.value.problems) == 5
        assert "table names are unique. Received `user` 2 times" in text
        assert "lookup keys are unique. Received `k` 2 times" in text
        assert "table `item`: `num_rows` and `dim` are at least 1. Received num_rows=0, dim=4" in text
        assert "lookup `k`: no table is called `iten`. Did you mean `item`?" in text
        assert "`pooling` is one of none, sum, mean, sqrtn, min, max. Received 'median'" in text

    def test_backend(self):
        with pytest.raises(BuildError, match=r"`backend` is auto, torch or fbgemm. Received 'cuda'"):
            EmbeddingCollection(tables=[], lookups=[], backend="cuda")

    def test_missing_feature(self):
        with pytest.raises(DataError, match=r"`out` reads the feature `x`.* not have. Known: y"):
            one_table("sum")({"y": Dense(torch.tensor([0]))})

    def test_numbers_instead_of_ids(self):
        with pytest.raises(DataError, match=r"`x`. Received torch.float32 of shape \(2, 1\)"):
            one_table("sum")({"x": Dense(torch.zeros(2, 1))})

    @pytest.mark.parametrize(
        ("feature", "worst"),
        [(Dense(torch.tensor([0, 5])), 5), (jagged([[0, 9]]), 9), (jagged([[0, -1]]), -1)],
    )
    def test_ids_outside_the_table(self, feature, worst):
        collection = EmbeddingCollection(
            tables=[TableSpec("t", 5, 2), TableSpec("next", 50, 2)], lookups=[Lookup("out", "x", "t")]
        )
        with pytest.raises(DataError, match=rf"feature `x` are rows of its table `t`: 0 to 4.*Received {worst}\."):
            collection({"x": feature})

    def test_steps_with_several_ids_need_a_pooling(self):
        x = Jagged(torch.tensor([0]), torch.tensor([0, 1]), None, torch.tensor([0, 1]))
        with pytest.raises(DataError, match=r"steps of the feature `x` hold several ids.*`step_pooling`"):
            one_table("none", step_pooling="none")({"x": x})

    def test_unknown_table(self):
        collection = one_table("sum")
        for call in (collection.weight, collection.spec, lambda name: collection.freeze([name])):
            with pytest.raises(BuildError, match=r"no table is called `u`. Known: t"):
                call("u")


class TestCheckpoints:
    TABLES = (TableSpec("a", 3, 4), TableSpec("b", 5, 4), TableSpec("c", 2, 3))

    def build(self, tables):
        return EmbeddingCollection(tables=tables, lookups=[Lookup(t.name, "f", t.name) for t in tables])

    def test_do_not_depend_on_how_tables_are_fused(self):
        one = self.build(self.TABLES)
        state = one.state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == {
            "tables.a": (3, 4),
            "tables.b": (5, 4),
            "tables.c": (2, 3),
        }
        other = self.build([TableSpec("b", 5, 4, group="wide"), self.TABLES[2], self.TABLES[0]])
        other.load_state_dict(state)
        for name in "abc":
            assert torch.equal(one.weight(name), other.weight(name))
        assert not other.fused_weight("wide_4")[-1].any()

    def test_inside_a_model(self):
        model = torch.nn.ModuleDict({"tables": self.build(self.TABLES), "head": torch.nn.Linear(2, 1)})
        other = torch.nn.ModuleDict({"tables": self.build(self.TABLES), "head": torch.nn.Linear(2, 1)})
        other.load_state_dict(model.state_dict())
        assert torch.equal(other["tables"].weight("b"), model["tables"].weight("b"))

    def test_mismatches(self):
        state = self.build(self.TABLES).state_dict()
        other = self.build([TableSpec("a", 7, 4), self.TABLES[1], TableSpec("new", 2, 3)])
        before = other.weight("a").clone()
        with pytest.raises(RuntimeError) as caught:
            other.load_state_dict(state)
        text = str(caught.value)
        assert "the table `a` has 7 rows of 4 numbers. Found `tables.a` of shape (3, 4)" in text
        assert 'Missing key(s) in state_dict: "tables.new"' in text
        assert 'Unexpected key(s) in state_dict: "tables.c"' in text
        assert torch.equal(other.weight("a"), before)

    def test_built_on_the_meta_device_and_filled(self):
        source = self.build(self.TABLES)
        with torch.device("meta"):
            target = self.build(self.TABLES)
        assert all(p.is_meta for p in target.parameters())
        target.load_state_dict(source.state_dict(), assign=True)
        ids = {"f": Dense(torch.tensor([1, -1]))}
        for key, vector in target(ids).items():
            assert torch.equal(vector, source(ids)[key])

    def test_a_copy_has_its_own_tables(self):
        one = self.build(self.TABLES)
        other = copy.deepcopy(one)
        other.weight("a").zero_()
        assert one.weight("a").any()


class TestExport:
    def test_any_batch_size_gives_the_same_vectors(self):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.collection = EmbeddingCollection(
                    tables=[TableSpec("a", 5, 4), TableSpec("b", 7, 4)],
                    lookups=[
                        Lookup("a", "a", "a"),
                        Lookup("b", "b", "b"),
                        *(Lookup(pooling, "tags", "b", pooling) for pooling in POOLINGS),
                        Lookup("steps", "tags", "b", "none"),
                    ],
                )

            def forward(self, a, b, values, offsets):
                out = self.collection({"a": Dense(a), "b": Dense(b), "tags": Jagged(values, offsets)})
                return concat_vectors([out[key] for key in ("a", "b", *POOLINGS)]), out["steps"].values

        def inputs(a, b, rows):
            tags = jagged(rows)
            return torch.tensor(a), torch.tensor(b), tags.values, tags.offsets

        model, size, steps = Model(), torch.export.Dim("size", min=2), torch.export.Dim("steps", min=2)
        with torch.no_grad():
            exported = torch.export.export(
                model,
                inputs([0, -1, 4], [1, 1, -1], [[1, 2, 2], [], [6]]),
                dynamic_shapes=({0: size}, {0: size}, {0: steps}, {0: size + 1}),
            )
            other = inputs([4, 3, -1, 0, 0], [6, 5, 4, -1, 0], [[], [1], [5, 5, 0], [], [3]])
            for got, expected in zip(exported.module()(*other), model(*other), strict=True):
                torch.testing.assert_close(got, expected)


class TestInitialValues:
    def table(self, rows, dim, initializer=None, seed=0):
        torch.manual_seed(seed)
        return EmbeddingCollection(tables=[TableSpec("t", rows, dim, initializer)], lookups=[]).weight("t")

    def test_default_is_a_normal_cut_at_two_deviations(self):
        weight = self.table(20_000, 16)
        assert weight.abs().max() <= 2 * 0.25
        assert weight.abs().max() > 1.99 * 0.25
        assert weight.mean().item() == pytest.approx(0.0, abs=0.002)
        # The standard deviation of a standard normal that is cut at two: 0.8796.
        assert weight.std().item() == pytest.approx(0.8796 * 0.25, rel=0.01)
        # A third of a cut normal lies within 0.4131 of the middle.
        inner = (weight.abs() < 0.25 * 0.4131).float().mean().item()
        assert inner == pytest.approx(0.3369, abs=0.005)

    @pytest.mark.parametrize(
        ("initializer", "mean", "std", "largest"),
        [
            ({"truncated_normal_initializer": {"mean": 1.0, "stddev": 0.1}}, 1.0, 0.08796, 1.2),
            ({"random_normal_initializer": {"mean": -1.0, "stddev": 0.5}}, -1.0, 0.5, 3.0),
            ({"glorot_normal_initializer": {}, "constant_initializer": None}, 0.0, (2 / 20_016) ** 0.5, 0.03),
            ({"constant_initializer": {"consts": [0.25]}}, 0.25, 0.0, 0.25),
        ],
    )
    def test_kinds(self, initializer, mean, std, largest):
        weight = self.table(20_000, 16, initializer)
        assert weight.mean().item() == pytest.approx(mean, abs=0.01)
        assert weight.std().item() == pytest.approx(std, rel=0.02, abs=1e-7)
        assert weight.max().item() <= largest

    def test_constants_in_row_order(self):
        weight = self.table(2, 3, {"constant_initializer": {"consts": [1, 2, 3, 4, 5, 6]}})
        assert weight.tolist() == [[1, 2, 3], [4, 5, 6]]

    def test_errors(self):
        with pytest.raises(BuildError, match=r"`t`: `consts` has one value, .* 2 x 3 = 6 entries. Received 4 values"):
            self.table(2, 3, {"constant_initializer": {"consts": [1, 2, 3, 4]}})
        with pytest.raises(
            BuildError, match=r"no initializer is called `random_norm`. Did you mean `random_normal_init"
        ):
            self.table(2, 3, {"random_norm": {}})
        with pytest.raises(BuildError, match=r"a table has one initializer. Received random_normal.*, constant"):
            self.table(2, 3, {"random_normal_initializer": {}, "constant_initializer": {}})

    def test_the_seed_decides_and_fusing_does_not(self):
        specs = [TableSpec("a", 100, 4), TableSpec("b", 50, 3), TableSpec("c", 70, 4)]
        tables = []
        for group in ("deep", "wide"):
            torch.manual_seed(3)
            last = TableSpec("c", 70, 4, group=group)
            tables.append(EmbeddingCollection(tables=[*specs[:2], last], lookups=[]).state_dict())
        assert all(torch.equal(tables[0][key], tables[1][key]) for key in tables[0])
        assert not torch.equal(self.table(10, 4, seed=1), self.table(10, 4, seed=2))
        one = EmbeddingCollection(tables=specs, lookups=[], generator=torch.Generator().manual_seed(9))
        two = EmbeddingCollection(tables=specs, lookups=[], generator=torch.Generator().manual_seed(9))
        assert torch.equal(one.weight("c"), two.weight("c"))

    def test_large_tables_in_huge_pages_behave_like_others(self):
        torch.manual_seed(0)
        large = EmbeddingCollection(tables=[TableSpec("t", 600_000, 16)], lookups=[Lookup("k", "f", "t")])
        ids = torch.tensor([0, 599_999, -1])
        assert large.weight("t").std().item() == pytest.approx(0.8796 * 0.25, rel=0.01)
        assert torch.equal(large({"f": Dense(ids)})["k"][:2], F.embedding(ids[:2], large.weight("t")))
        assert not large({"f": Dense(ids)})["k"][2].any()
