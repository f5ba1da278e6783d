# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""`data_config`: what the input files hold and how rows become batches."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from intarsia.config.schema.base import cloud
from intarsia.core.params import StrictModel


class FieldType(StrEnum):
    """Type of a raw column."""

    INT32 = "INT32"
    INT64 = "INT64"
    STRING = "STRING"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    BOOL = "BOOL"


class InputType(StrEnum):
    """File formats. Those of a cloud or a queue are known, and refused when the data are opened."""

    CSVInput = "CSVInput"
    CSVInputV2 = "CSVInputV2"
    CSVInputEx = "CSVInputEx"
    ParquetInput = "ParquetInput"
    ParquetInputV2 = "ParquetInputV2"
    ParquetInputV3 = "ParquetInputV3"
    TFRecordInput = "TFRecordInput"
    BatchTFRecordInput = "BatchTFRecordInput"
    CriteoInput = "CriteoInput"
    DummyInput = "DummyInput"
    RTPInput = "RTPInput"
    RTPInputV2 = "RTPInputV2"
    OdpsInput = "OdpsInput"
    OdpsInputV2 = "OdpsInputV2"
    OdpsInputV3 = "OdpsInputV3"
    OdpsRTPInput = "OdpsRTPInput"
    OdpsRTPInputV2 = "OdpsRTPInputV2"
    DataHubInput = "DataHubInput"
    KafkaInput = "KafkaInput"
    HiveInput = "HiveInput"
    HiveRTPInput = "HiveRTPInput"
    HiveParquetInput = "HiveParquetInput"


class InputField(StrictModel):
    """One raw column."""

    input_name: str
    """Name of the column (CSV without a header: the position in this list is the position in the line)."""
    input_type: FieldType = FieldType.STRING
    """Type of the column's values."""
    default_val: str | int | float | bool | None = None
    """Value that an empty cell gets. Default: empty text, 0, 0.0 or false."""
    input_dim: int | None = cloud("features say how many numbers a cell has (raw_input_dim)")
    input_shape: int | None = cloud("features say how many numbers a cell has (raw_input_dim)")
    ignore_val: str | int | float | None = None
    """A value that means `missing`."""
    user_define_fn: str | None = cloud("label functions of the user's own code are not loaded from a file")
    user_define_fn_path: str | None = cloud("label functions of the user's own code are not loaded from a file")
    user_define_fn_res_type: FieldType | None = cloud(
        "label functions of the user's own code are not loaded from a file"
    )


class ExtraLabelFunc(StrictModel):
    """A label computed from other labels."""

    label_name: str
    """Name of the new label."""
    label_func: str
    """Expression over label names, for instance `clk * buy`."""


class SplitConfig(StrictModel):
    """How one set of rows becomes training, validation and test parts. A bare word such as `leave_one_out` will do.

    Has no counterpart in EasyRec. Plain rows split at `random`; ranking models on a log by `time`, `random`,
    `leave_one_out` or `user`; retrievers by any of these.
    """

    by: Literal[
        "time",
        "random",
        "leave_one_out",
        "user",
        "time_by_user",
        "random_by_user",
        "random_by_item",
        "k_fold",
        "files",
    ] = "time"
    """`time`: one point in time for all; `random`: rows at random; `leave_one_out`: each user's last rows; `user`:
    disjoint users; `time_by_user`: each user's last share; `random_by_user`, `random_by_item`: a share of each user's
    (item's) rows at random; `k_fold`: one of several random parts; `files`: as the files are."""
    valid: float = Field(default=0.1, ge=0)
    """Share of the rows in the validation part (leave_one_out: rows of each user)."""
    test: float = Field(default=0.1, ge=0)
    """Share of the rows in the test part (leave_one_out: rows of each user)."""
    input_share: float = Field(default=0.8, gt=0, lt=1)
    """`user`: first share of a validation or test user's interactions, which is given; the rest is asked for."""
    folds: int = Field(default=5, ge=2)
    """`k_fold`: number of parts."""
    fold: int = Field(default=0, ge=0)
    """`k_fold`: the part that is the test part."""
    valid_in_test_history: bool = True
    """Whether validation interactions belong to the history (and to the seen items) of test queries. Retrievers."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"by": data}
        if isinstance(data, dict) and data.get("by") == "leave_one_out":
            return {"valid": 1, "test": 1, **data}
        return data


class LogConfig(StrictModel):
    """Column roles and files of an interaction log. Has no counterpart in EasyRec."""

    user_field: str = "user_id"
    """Column with the user's id."""
    item_field: str = "item_id"
    """Column with the item's id."""
    rating_field: str | None = None
    """Column with the rating."""
    time_field: str | None = None
    """Column with the time. Default: the order of the rows is the order of time."""
    context_fields: list[str] = []
    """Further columns of the log, which features of the context may read."""
    title_field: str | None = None
    """Column of the item table that is shown beside recommendations."""
    positive_rating: float | None = None
    """Ratings at or above this are positive (label 1), the others negative (label 0). Retrievers leave the negative
    ones out, as filter.min_rating does."""
    history_field: str = "history"
    """Name of the column that this adds: items of the user's positive rows strictly before the row, oldest first."""
    max_history: int = Field(default=50, ge=1)
    """Latest items of the history that are kept."""
    format: Literal["auto", "table", "atomic", "lines", "ncf", "sessions"] = "auto"
    """`table`: CSV, TSV, Parquet; `atomic`: `.inter` with `.user`, `.item`, `.kg`, `.link` beside it; `lines`: a user
    and the user's items in each line, oldest first; `ncf`: `user item rating time` with negatives of the test items;
    `sessions`: the items of one session in each line, test rows `prefix TAB target`; `auto`: told by name and content.
    Retrievers."""
    separator: str | None = None
    """What stands between two cells of the log and its tables, such as `::`. Default: told by the first lines."""
    columns: list[str] = []
    """Names of the log's columns where its files have no header."""
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    """How the text of the log and its tables is encoded."""
    user_table: str | None = None
    """File with one row a user."""
    user_columns: list[str] = []
    """Names of the user table's columns where it has no header."""
    item_table: str | None = None
    """File with one row an item."""
    item_columns: list[str] = []
    """Names of the item table's columns where it has no header."""
    knowledge_path: str | None = None
    """File of triples head, relation, tail."""
    links_path: str | None = None
    """File that says which entity of the triples an item is: item, entity."""
    negatives_path: str | None = None
    """File with the items that each test item is ranked against: `(user,item)` and items, or `user` and items."""
    time_format: str | None = None
    """How times are written, as in strptime: `%d/%m/%Y %H:%M`. Default: numbers, or ISO dates and timestamps."""
    repeated: Literal["keep", "first", "last"] = "keep"
    """What becomes of interactions of one user with one item: all stay, or the first or last one. Retrievers."""
    include_unseen_items: bool = False
    """Whether items that only the item table knows can be recommended. Retrievers."""


class FilterConfig(StrictModel):
    """Which interactions of a log are kept. Has no counterpart in EasyRec.

    Ratings go first, then repeated interactions are merged (`log.repeated`), then rare items and users are left out.
    """

    min_rating: float | None = None
    """Interactions with a lower rating are left out."""
    max_rating: float | None = None
    """Interactions with a higher rating are left out."""
    min_item_interactions: int = Field(default=1, ge=1)
    """Items with fewer interactions are left out; once, before users are counted."""
    min_user_interactions: int = Field(default=1, ge=1)
    """Users with fewer interactions are left out; once, after items were."""
    iterative: bool = False
    """Whether both are repeated until nothing changes."""
    k_core: int | None = Field(default=None, ge=1)
    """Every user and every item keeps at least so many interactions: short for both minima and `iterative`."""

    @model_validator(mode="after")
    def _one_spelling(self) -> Self:
        if self.k_core is not None and (self.min_item_interactions > 1 or self.min_user_interactions > 1):
            raise ValueError(
                "k_core stands for min_item_interactions, min_user_interactions and iterative, so it is given alone. "
                f"Received: k_core {self.k_core}, min_item_interactions {self.min_item_interactions}, "
                f"min_user_interactions {self.min_user_interactions}. Keep one spelling"
            )
        low, high = self.min_rating, self.max_rating
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_rating must not be above max_rating. Received: {low:g} and {high:g}")
        return self


class DataConfig(StrictModel):
    """Input files, columns, labels and batches."""

    batch_size: int = Field(default=32, ge=1)
    """Rows in one training step."""
    eval_batch_size: int = Field(default=4096, ge=1)
    """Rows in one evaluation step."""
    input_fields: list[InputField] = []
    """The raw columns, in file order where there is no header."""
    auto_expand_input_fields: bool = False
    """Whether `name[1-3]` in an input_name stands for name1, name2, name3."""
    label_fields: list[str] = []
    """Columns that hold labels."""
    label_sep: list[str] = []
    """Separator inside each multi-valued label."""
    label_dim: list[int] = []
    """Number of values in each label."""
    extra_label_func: list[ExtraLabelFunc] = []
    """Labels computed from other labels."""
    feature_fields: list[str] | None = cloud("features name the columns that they read")
    sample_weight: str | None = None
    """Column that multiplies each row's loss."""
    input_type: InputType = InputType.CSVInput
    """Format of the files."""
    separator: str = ","
    """What stands between two cells."""
    selected_cols: str = ""
    """Comma-separated positions or names of the columns to read. Default: all."""
    with_header: bool = False
    """Whether the first line holds column names."""
    rtp_separator: str | None = cloud("RTP files are not read")
    ignore_error: bool = False
    """Whether rows that cannot be read are skipped and counted instead of being an error."""
    on_bad_rows: Literal["error", "skip"] | None = None
    """`error` or `skip`: the plainer spelling of ignore_error, which it overrides. Not in EasyRec."""
    data_compression_type: str = ""
    """`GZIP`, or empty: told by the file's ending."""
    shuffle: bool = True
    """Whether training rows are shuffled (over the whole data set) in each epoch."""
    shuffle_buffer_size: int = Field(default=32, ge=0)
    """Read only when streaming: row groups that are mixed at a time."""
    num_epochs: int = Field(default=0, ge=0)
    """Passes over the training data; 0: until train_config.num_steps, or once if that is 0 too."""
    prefetch_size: int = Field(default=32, ge=0)
    """Upper bound of the batches that are prepared ahead of the model."""
    drop_remainder: bool = False
    """Whether the last, smaller batch of an epoch is left out."""
    streaming: bool | None = None
    """Whether Parquet is read by row groups at each pass. Default: only where it does not fit. Not in EasyRec."""
    cache_dir: str | None = None
    """Folder for encoded columns. Default: `$INTARSIA_CACHE` or the user's cache folder. Not in EasyRec."""
    use_cache: bool = True
    """Whether encoded columns are kept and reused. Not in EasyRec."""
    dataset: str | None = None
    """Name of a catalogued data set, such as `ml-100k`, or a folder that holds it. Not in EasyRec."""
    log: LogConfig | None = None
    """Column roles and files of an interaction log. Not in EasyRec."""
    filter: FilterConfig | None = None
    """Which interactions of a log are kept. Retrievers. Not in EasyRec."""
    split: SplitConfig | None = None
    """How rows are split where no eval_input_path is given. Not in EasyRec."""
    num_parallel_calls: int | None = cloud("reading uses all cores")
    n_data_batch_tfrecord: int | None = cloud("TFRecord files are not read")
    file_shard: bool | None = cloud("processes share the rows, not the files")
    shard: bool | None = cloud("processes share the rows, not the files")
    selected_col_types: str | None = cloud("types are those of input_fields")
    pai_worker_queue: bool | None = cloud("a switch of a cloud's job queue")
    pai_worker_slice_num: int | None = cloud("a switch of a cloud's job queue")
    chief_redundant: bool | None = cloud("there is no chief process")
    negative_sampler: dict[str, Any] | None = None
    """Graph sampler, weighted."""
    negative_sampler_v2: dict[str, Any] | None = None
    """Graph sampler over items without an edge to the user."""
    hard_negative_sampler: dict[str, Any] | None = None
    """Graph sampler with hard negatives."""
    hard_negative_sampler_v2: dict[str, Any] | None = None
    """Graph sampler with hard negatives over edges."""
    negative_sampler_in_memory: dict[str, Any] | None = None
    """Uniform sampler in memory."""
