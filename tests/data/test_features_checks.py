import pytest

from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.features import FeatureConfig
from intarsia.core.errors import ConfigError
from intarsia.data.features import FeatureEncoder, check_features, expand_shared

ID = {"input_names": ["a"], "hash_bucket_size": 10, "embedding_dim": 4}


def problems(*features, **options):
    configs = [FeatureConfig.model_validate(feature) for feature in features]
    return [(problem.path, problem.message) for problem in check_features(configs, **options)]


def test_features_without_mistakes_have_no_problems():
    good = [
        ID,
        {"feature_type": "RawFeature", "input_names": ["b"]},
        {"feature_type": "RawFeature", "input_names": ["c"], "boundaries": [1, 2], "embedding_dim": 2},
        {"feature_type": "TagFeature", "input_names": ["d", "w"], "vocab": "auto", "min_count": 3, "embedding_dim": 2},
        {"feature_type": "SequenceFeature", "input_names": ["e"], "num_buckets": 3, "embedding_dim": 2},
        {"feature_type": "ComboFeature", "feature_name": "f", "input_names": ["a", "b"], "hash_bucket_size": 9,
         "embedding_dim": 2},
        {"feature_type": "LookupFeature", "feature_name": "g", "input_names": ["a", "b"], "hash_bucket_size": 9,
         "embedding_dim": 2, "kv_separator": ":"},
        {"feature_type": "ExprFeature", "feature_name": "h", "input_names": ["b", "c"], "expression": "b + c"},
        {"feature_type": "PassThroughFeature", "feature_name": "i", "input_names": ["b"]},
    ]  # fmt: skip
    assert problems(*good) == []


@pytest.mark.parametrize(
    ("feature", "field", "text"),
    [
        ({"hash_bucket_size": 0}, "hash_bucket_size", "ids need a source; set one of hash_bucket_size, vocab_list"),
        ({"embedding_dim": 0}, "embedding_dim", "must be at least 1 for a feature that arrives as ids. Received: 0."),
        (
            {"feature_type": "RawFeature", "boundaries": [3, 1], "embedding_dim": 1},
            "boundaries",
            "must be in increasing order, all different. Received: [3.0, 1.0].",
        ),
        ({"feature_type": "RawFeature", "boundaries": [1], "embedding_dim": 0}, "embedding_dim", "Received: 0."),
        (
            {"feature_type": "RawFeature", "min_val": 5, "max_val": 2},
            "max_val",
            "must not be below min_val = 5.0. Received: 2.0.",
        ),
        (
            {"feature_type": "RawFeature", "normalizer_fn": "os.system"},
            "normalizer_fn",
            "os.system",
        ),
        ({"feature_type": "LookupFeature", "input_names": ["a", "b"], "kv_separator": ":"}, "feature_name", "must be"),
        (
            {"feature_type": "LookupFeature", "feature_name": "l", "kv_separator": ":"},
            "input_names",
            "a LookupFeature reads 2 columns, a key and a map. Received: ['a'].",
        ),
        (
            {"feature_type": "LookupFeature", "feature_name": "l", "input_names": ["a", "b"]},
            "kv_separator",
            "what stands between a key and its value",
        ),
        ({"input_names": ["a", "b"]}, "input_names", "must be one column for IdFeature. Received: ['a', 'b']."),
        (
            {"feature_type": "RawFeature", "input_names": ["a", "b"]},
            "input_names",
            "must be one column for RawFeature. Received: ['a', 'b'].",
        ),
        ({"vocab": "auto"}, "vocab", "the only source of ids. Received `vocab: auto` and hash_bucket_size."),
        (
            {"hash_bucket_size": 0, "vocab": "auto", "vocab_list": ["x"], "num_buckets": 3},
            "vocab",
            "Received `vocab: auto` and vocab_list, num_buckets.",
        ),
        ({"feature_type": "ComboFeature"}, "input_names", "combines at least 2 columns. Received: ['a']."),
        (
            {"feature_type": "ComboFeature", "input_names": ["a", "b"], "hash_bucket_size": 0, "vocab": "auto"},
            "hash_bucket_size",
            "must be set for a ComboFeature without combo_join_sep",
        ),
        (
            {"feature_type": "ComboFeature", "input_names": ["a", "b"], "combo_input_seps": ["|", "|", "|"]},
            "combo_input_seps",
            "has at most one separator for each of 2 inputs. Received 3.",
        ),
        (
            {"feature_type": "TagFeature", "input_names": ["a", "w"], "kv_separator": ":"},
            "kv_separator",
            "weights stand behind each tag or in column `w`, not in both. Remove one.",
        ),
        ({"feature_type": "TagFeature", "input_names": ["a", "b", "c"]}, "input_names", "Received: ['a', 'b', 'c']."),
        (
            {"feature_type": "SequenceFeature", "sub_feature_type": "TagFeature"},
            "sub_feature_type",
            "must be IdFeature or RawFeature. Received: TagFeature.",
        ),
        (
            {"feature_type": "SequenceFeature", "sub_feature_type": "RawFeature"},
            "hash_bucket_size",
            "hashes text, and sub_feature_type is RawFeature. Set sub_feature_type: IdFeature.",
        ),
        (
            {"feature_type": "SequenceFeature", "sub_feature_type": "RawFeature", "hash_bucket_size": 0,
             "boundaries": [1], "raw_input_dim": 3},
            "raw_input_dim",
            "must be 1 where steps become buckets. Received: 3.",
        ),
        ({"feature_type": "ExprFeature", "feature_name": "e"}, "expression", "must be set for an ExprFeature."),
        ({"feature_type": "ExprFeature", "feature_name": "e", "expression": "a + q"}, "expression", "q"),
        (
            {"hash_bucket_size": 0, "vocab_list": ["x", "y", "x"]},
            "vocab_list",
            "must hold different values. Received more than once: ['x'].",
        ),
        ({"precision": 20}, "precision", "must be at most 15. Received: 20."),
        ({"min_count": 2}, "min_count", "is read only with `vocab: auto`. Received: 2."),
        (
            {"feature_type": "SequenceFeature", "sequence_combiner": {"multi_head_attention": {}}},
            "sequence_combiner",
            "implemented neither in EasyRec nor here",
        ),
        ({"initializer": {}}, "initializer", "must have exactly one of: truncated_normal_initializer"),
        (
            {"initializer": {"random_normal_initializer": {}, "glorot_normal_initializer": {}}},
            "initializer",
            "Received: ['random_normal_initializer', 'glorot_normal_initializer'].",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_found_with_its_place(feature, field, text):
    found = problems({"input_names": ["fine"], "num_buckets": 3, "embedding_dim": 1}, {**ID, **feature})
    assert len(found) == 1
    path, message = found[0]
    assert path == f"feature_config.features[1].{field}"
    assert text in message
    assert message.endswith("`)")


def test_width_is_asked_only_of_features_that_are_embedded_with_it():
    assert problems({**ID, "embedding_dim": 0}, embedded=()) == []
    assert len(problems({**ID, "embedding_dim": 0}, embedded=("a",))) == 1


def test_names_must_be_different():
    assert problems(ID, {**ID, "hash_bucket_size": 7}) == [
        (
            "feature_config.features[1]",
            "feature names must be different. Received `a`, which features[0] has. Set another feature_name.",
        )
    ]
    assert len(problems({**ID, "shared_names": ["b"]}, {**ID, "input_names": ["b"]})) == 1


def test_columns_that_do_not_exist():
    found = problems(ID, {**ID, "input_names": ["user_idd"], "shared_names": ["x[1-2]"]}, columns=["a", "user_id"])
    assert found == [
        (
            "feature_config.features[1].input_names",
            "column `user_idd` is not among data_config.input_fields. Did you mean `user_id`? (feature `user_idd`)",
        )
    ]


SHARED = {"hash_bucket_size": 10, "embedding_dim": 4, "embedding_name": "t"}


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"hash_bucket_size": 11}, "`t` must agree in table size. Received 11 for `b` and 10 for `a`."),
        ({"embedding_dim": 8}, "`t` must agree in embedding_dim. Received 8 for `b` and 4 for `a`."),
        ({"combiner": "mean"}, "`t` must agree in combiner. Received mean for `b` and sum for `a`."),
        (
            {"initializer": {"random_normal_initializer": {"stddev": 0.1}}},
            "`t` must agree in initializer. Received {'random_normal_initializer'",
        ),
        ({"hash_bucket_size": 0, "vocab": "auto"}, "`t` must agree in `vocab: auto`. Received True for `b` and False"),
    ],
)
def test_features_that_share_a_table_must_agree(other, text):
    found = problems({"input_names": ["a"], **SHARED}, {"input_names": ["b"], **SHARED, **other})
    assert [path for path, _ in found] == ["feature_config.features[1]"]
    assert text in found[0][1]


def test_a_name_used_once_is_not_shared_and_numbers_have_no_table():
    raw = {"feature_type": "RawFeature", "input_names": ["b"], "embedding_name": "t"}
    assert problems({"input_names": ["a"], **SHARED}, raw) == []


def test_learned_tables_must_agree_in_min_count():
    auto = {"vocab": "auto", "embedding_dim": 4, "embedding_name": "t"}
    found = problems({"input_names": ["a"], **auto}, {"input_names": ["b"], "min_count": 2, **auto})
    assert "`t` must agree in min_count. Received 2 for `b` and 1 for `a`." in found[0][1]


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError, match="2 problems") as caught:
        FeatureEncoder(
            [
                FeatureConfig(input_names=["a"], embedding_dim=1),
                FeatureConfig(input_names=["b"], hash_bucket_size=3, embedding_dim=1, precision=99),
            ],
            DataConfig(),
        )
    assert [p.path for p in caught.value.problems] == [
        "feature_config.features[0].hash_bucket_size",
        "feature_config.features[1].precision",
    ]


def test_shared_names_copy_the_options_and_not_the_table():
    configs = [FeatureConfig.model_validate({**ID, "feature_name": "first", "shared_names": ["x[1-2]", "y"]})]
    names = [config.name for config in expand_shared(configs, auto_expand=True)]
    assert names == ["first", "x1", "x2", "y"]
    assert [config.name for config in expand_shared(configs)] == ["first", "x[1-2]", "y"]
    copies = expand_shared(configs, auto_expand=True)
    assert copies[1].input_names == ["x1"]
    assert all(config.hash_bucket_size == 10 and not config.shared_names for config in copies)
    encoder = FeatureEncoder(configs, DataConfig(auto_expand_input_fields=True))
    assert {spec.table for spec in encoder.schema_features.values()} == {""}
