import pytest

from intarsia.config.schema.training import LearningRate
from intarsia.core.errors import ConfigError
from intarsia.training.schedules import make_schedule


def schedule(multiplier=1.0, **message):
    return make_schedule(LearningRate.model_validate(message), multiplier)


def test_constant_and_default():
    assert make_schedule(LearningRate())(12345) == 0.002
    assert make_schedule(LearningRate.model_validate(0.5))(3) == 0.5


# Each table is worked out by hand.
@pytest.mark.parametrize(
    ("message", "table"),
    [
        (
            {"exponential_decay_learning_rate": {"initial_learning_rate": 1, "decay_steps": 10, "decay_factor": 0.5}},
            {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25},
        ),
        (
            {
                "exponential_decay_learning_rate": {
                    "initial_learning_rate": 1,
                    "decay_steps": 10,
                    "decay_factor": 0.25,
                    "staircase": False,
                    "min_learning_rate": 0.1,
                }
            },
            {0: 1, 5: 0.5, 10: 0.25, 15: 0.125, 20: 0.1, 1000: 0.1},
        ),
        (  # the burn-in climbs on a line, and the decay counts from its end
            {
                "exponential_decay_learning_rate": {
                    "initial_learning_rate": 1,
                    "decay_steps": 10,
                    "decay_factor": 0.5,
                    "burnin_learning_rate": 0.2,
                    "burnin_steps": 4,
                }
            },
            {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 1, 13: 1, 14: 0.5, 24: 0.25},
        ),
        (  # a burn-in without a rate holds the initial one
            {
                "exponential_decay_learning_rate": {
                    "initial_learning_rate": 1,
                    "decay_steps": 10,
                    "decay_factor": 0.5,
                    "burnin_steps": 4,
                }
            },
            {0: 1, 3: 1, 13: 1, 14: 0.5},
        ),
        (
            {
                "manual_step_learning_rate": {
                    "initial_learning_rate": 1,
                    "schedule": [{"step": 4, "learning_rate": 0.5}, {"step": 8, "learning_rate": 0.25}],
                }
            },
            {0: 1, 3: 1, 4: 0.5, 7: 0.5, 8: 0.25, 99: 0.25},
        ),
        (
            {
                "manual_step_learning_rate": {
                    "initial_learning_rate": 0.1,
                    "warmup": True,
                    "schedule": [{"step": 4, "learning_rate": 0.5}, {"step": 8, "learning_rate": 0.25}],
                }
            },
            {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5, 7: 0.5, 8: 0.25},
        ),
        (
            {
                "cosine_decay_learning_rate": {
                    "learning_rate_base": 1,
                    "total_steps": 16,
                    "warmup_learning_rate": 0.2,
                    "warmup_steps": 4,
                    "hold_base_rate_steps": 4,
                }
            },
            {0: 0.2, 2: 0.6, 4: 1, 8: 1, 10: 0.5 + 0.5 * 0.5**0.5, 12: 0.5, 16: 0, 17: 0, 100: 0},
        ),
        (
            {"cosine_decay_learning_rate": {"learning_rate_base": 1, "total_steps": 6, "warmup_steps": 0}},
            {0: 1, 2: 0.75, 3: 0.5, 4: 0.25, 6: 0},
        ),
        (
            {
                "poly_decay_learning_rate": {
                    "learning_rate_base": 1,
                    "total_steps": 10,
                    "power": 2,
                    "end_learning_rate": 0.5,
                }
            },
            {0: 1, 5: 0.625, 10: 0.5, 20: 0.5},
        ),
        (  # hidden 4: factor 2 / sqrt(4) = 1; warm-up of 4: (t + 1) / 8, then 1 / sqrt(t + 1)
            {"transformer_learning_rate": {"learning_rate_base": 2, "hidden_size": 4, "warmup_steps": 4}},
            {0: 0.125, 1: 0.25, 3: 0.5, 8: 1 / 3, 15: 0.25},
        ),
        (  # steps count double: warm-up of 8 * 2 = 16, so (2t + 1) / 64, then 1 / sqrt(2t + 1)
            {
                "transformer_learning_rate": {
                    "learning_rate_base": 2,
                    "hidden_size": 4,
                    "warmup_steps": 8,
                    "step_scaling_rate": 2,
                }
            },
            {0: 1 / 64, 1: 3 / 64, 12: 0.2, 24: 1 / 7},
        ),
    ],
)
def test_hand_worked_tables(message, table):
    rate = schedule(**message)
    assert {step: rate(step) for step in table} == pytest.approx(table, abs=1e-12)
    tripled = schedule(3.0, **message)
    assert {step: tripled(step) for step in table} == pytest.approx({k: 3 * v for k, v in table.items()}, abs=1e-12)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            {"constant_learning_rate": {}, "poly_decay_learning_rate": {}},
            "`learning_rate` takes one schedule. Received 2: constant_learning_rate, poly_decay_learning_rate.",
        ),
        ({"manual_step_learning_rate": {}}, "needs at least one entry. Received none."),
        ({"manual_step_learning_rate": {"schedule": [{"step": 4}, {"step": 4}]}}, "must grow. Received [4, 4]."),
        ({"manual_step_learning_rate": {"schedule": [{"step": 0}]}}, "must come after step 0. Received step 0."),
        (
            {"cosine_decay_learning_rate": {"total_steps": 10, "warmup_steps": 8, "hold_base_rate_steps": 3}},
            "Received 8 + 3 > 10. Raise total_steps",
        ),
        (
            {"cosine_decay_learning_rate": {"learning_rate_base": 0.1, "warmup_learning_rate": 0.2}},
            "needs warmup_learning_rate <= learning_rate_base. Received 0.2 > 0.1.",
        ),
    ],
)
def test_contradictions_are_errors(message, text):
    with pytest.raises(ConfigError) as error:
        schedule(**message)
    assert text in str(error.value)
