from types import SimpleNamespace

import pytest

from intarsia.config.schema.evaluation import ExportConfig
from intarsia.config.schema.training import TrainConfig
from intarsia.core.errors import ConfigError
from intarsia.training.selection import Selection, bigger_is_better


def table(**values):
    return {name: SimpleNamespace(value=value) for name, value in values.items()}


def run(selection, values, metric="auc", every=10):
    """Feeds evaluations every 10 steps; returns the first step at which training would stop."""
    for index, value in enumerate(values, 1):
        selection.update(index * every, table(**{metric: value}))
        if selection.should_stop(index * every):
            return index * every
    return None


def make(early=None, **export):
    config = TrainConfig.model_validate({"early_stop": early} if early else {})
    return Selection(config, ExportConfig.model_validate(export))


@pytest.mark.parametrize(
    ("name", "bigger"),
    [
        ("auc", True),
        ("ndcg@10", True),
        ("recall@5", True),
        ("gauc", True),
        ("max_f1", True),
        ("logloss", False),
        ("ctr/logloss", False),
        ("rmse_price", False),
        ("mean_absolute_error", False),
        ("cross_entropy_loss", False),
    ],
)
def test_direction_is_told_by_the_name(name, bigger):
    assert bigger_is_better(name) is bigger


def test_direction_is_told_by_the_metric_first():
    assert bigger_is_better("logloss", SimpleNamespace(value=1.0, bigger=True))


def test_patience_counts_evaluations_without_improvement():
    selection = make({"metric": "auc", "patience": 2})
    assert run(selection, [0.5, 0.6, 0.6, 0.7, 0.7, 0.7, 0.9]) == 60
    assert selection.best.best_step == 40


def test_smaller_is_better_for_logloss():
    selection = make({"metric": "logloss", "patience": 2})
    assert run(selection, [0.5, 0.6, 0.4, 0.41, 0.42], "logloss") == 50
    assert selection.best.best == [(0.4, 30)]


def test_config_decides_the_direction():
    selection = make({"metric": "auc", "patience": 2, "bigger": False})
    assert run(selection, [0.5, 0.6, 0.7]) == 30
    assert selection.best.best_step == 10


def test_undefined_values_are_not_improvements():
    selection = make({"metric": "auc", "patience": 2})
    assert run(selection, [None, 0.5, None, float("nan")]) == 40
    assert selection.best.best_step == 20


def test_min_delta():
    selection = make({"metric": "auc", "patience": 2, "min_delta": 0.1})
    assert run(selection, [0.5, 0.55, 0.6, 0.9]) == 30


def test_easyrec_early_stop_counts_steps():
    selection = make(enable_early_stop=True, max_check_steps=25)
    assert run(selection, [0.5, 0.6, 0.5, 0.5, 0.5]) == 50  # best at 20; 45 is between two evaluations
    assert run(make(enable_early_stop=True, max_check_steps=25, metric_bigger=False), [0.5, 0.6, 0.7, 0.8]) == 40


def test_best_steps_are_kept_in_order():
    selection = make(exporter_type="best", exports_to_keep=2)
    run(selection, [0.5, 0.7, 0.6, 0.65, 0.8, 0.1])
    assert selection.best.best == [(0.8, 50), (0.7, 20)]
    assert selection.protected() == {20, 50}


def test_unknown_metric_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        make({"metric": "logloos"}).update(1, table(auc=0.5, logloss=0.3))
    assert str(error.value) == (
        "`train_config.early_stop.metric` names a metric of the evaluation. Received `logloos`; the evaluation gives: "
        "auc, logloss. Did you mean `logloss`?"
    )
    with pytest.raises(ConfigError, match=r"`export_config.best_exporter_metric` names a metric"):
        make(exporter_type="best").update(1, table(rmse=0.5))


def test_nothing_asked_follows_the_first_metric_and_never_stops():
    selection = make()
    assert run(selection, [0.5, 0.4] + [0.6] * 50, "rmse") is None
    assert selection.best.best_step == 20
    assert not selection.keeps_best
    assert selection.update(1, {}) is False


def test_the_best_checkpoint_follows_the_early_stop_unless_told_otherwise():
    assert make({"metric": "ndcg@10"}, exporter_type="best").best.metric == "ndcg@10"
    assert make({"metric": "ndcg@10"}, exporter_type="best", best_exporter_metric="auc").best.metric == "auc"


def test_state_round_trip_goes_on_where_it_was():
    values = [0.5, 0.6, 0.6, 0.55, 0.6, 0.6]
    whole, first, second = (make({"metric": "auc", "patience": 3}) for _ in range(3))
    run(first, values[:3])
    second.load(first.state())
    second.update(40, table(auc=values[3]))
    second.update(50, table(auc=values[4]))
    assert second.should_stop(50)
    assert run(whole, values) == 50
    assert whole.state() == second.state()


@pytest.mark.parametrize(
    ("train", "export", "best"),
    [
        ({}, {}, False),
        ({"early_stop": {"metric": "auc"}}, {}, True),
        ({}, {"enable_early_stop": True}, True),
        ({"early_stop": {"metric": "auc"}}, {"exporter_type": "final"}, False),
        ({}, {"exporter_type": "best"}, True),
    ],
)
def test_an_early_stop_exports_the_best_weights_unless_told_otherwise(train, export, best):
    selection = Selection(TrainConfig.model_validate(train), ExportConfig.model_validate(export))
    assert selection.exports_best is best
