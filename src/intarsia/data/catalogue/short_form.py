"""What a short form assumes of a data set: column roles, split, and features of users and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_VECTOR: dict[str, object] = {
    "embedding_dim": 16,
    "initializer": {"truncated_normal_initializer": {"stddev": 0.02}},
}


def short_form(
    name: str,
    log: Mapping[str, object],
    *,
    split: str = "time",
    users: Sequence[str] = (),
    items: Sequence[str] = (),
    tags: Sequence[str] = (),
    batch_size: int = 2048,
    epochs: int = 5,
) -> Mapping[str, object]:
    """Column roles and features of a data set as a pipeline file would have them.

    Args:
        name: Name of the data set.
        log: Fields of `data_config.log`.
        split: Rule of the split; shares of a tenth each, or one interaction of each user.
        users: Columns of the user table that are categories.
        items: Columns of the item table that are categories.
        tags: Columns of the item table that hold several categories, separated by `|`.
        batch_size: Rows in one training step.
        epochs: Passes over the training data.
    """
    shares = {} if split in ("leave_one_out", "files") else {"valid": 0.1, "test": 0.1}
    data = {
        "dataset": name,
        "log": dict(log),
        "split": {"by": split, **shares},
        "label_fields": ["label"],
        "batch_size": batch_size,
        "num_epochs": epochs,
    }
    features = [
        *(_category(column) for column in ("user_id", *users)),
        {**_category("item_id"), "embedding_name": "item"},
        *(_category(column) for column in items),
        *({**_category(column), "feature_type": "TagFeature", "combiner": "mean"} for column in tags),
        {
            **_category("history"),
            "feature_type": "SequenceFeature",
            "embedding_name": "item",
            "sequence_combiner": {"attention": {}},
        },
    ]
    return {"data_config": data, "feature_config": {"features": features}}


def _category(column: str) -> dict[str, object]:
    return {"input_names": [column], "vocab": "auto", **_VECTOR}
