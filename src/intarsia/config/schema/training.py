# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""`train_config`: steps, optimizers, learning rates, checkpoints."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from intarsia.config.schema.base import cloud
from intarsia.core.params import StrictModel


class ConstantRate(StrictModel):
    """One rate for all steps."""

    learning_rate: float = Field(default=0.002, ge=0)
    """The rate."""


class ExponentialDecay(StrictModel):
    """initial * decay_factor ** (step / decay_steps), not below the minimum."""

    initial_learning_rate: float = Field(default=0.002, ge=0)
    """Rate of the first step."""
    decay_steps: int = Field(default=4_000_000, ge=1)
    """Steps after which the rate is multiplied by decay_factor once."""
    decay_factor: float = Field(default=0.95, gt=0)
    """Factor."""
    staircase: bool = True
    """Whether the exponent is rounded down."""
    burnin_learning_rate: float = Field(default=0.0, ge=0)
    """Rate that the burn-in starts from."""
    burnin_steps: int = Field(default=0, ge=0)
    """Steps of linear growth from burnin_learning_rate to the initial rate."""
    min_learning_rate: float = Field(default=0.0, ge=0)
    """Lower bound."""


class ManualStep(StrictModel):
    """From `step` on, `learning_rate`."""

    step: int = Field(ge=0)
    """First step with this rate."""
    learning_rate: float = Field(default=0.002, ge=0)
    """The rate."""


class ManualSteps(StrictModel):
    """Rates written out."""

    initial_learning_rate: float = Field(default=0.002, ge=0)
    """Rate before the first entry."""
    schedule: list[ManualStep] = []
    """Entries, by step."""
    warmup: bool = False
    """Whether the rate moves linearly to the first entry instead of jumping."""


class CosineDecay(StrictModel):
    """Linear warm-up, then half a cosine down to 0."""

    learning_rate_base: float = Field(default=0.002, ge=0)
    """Highest rate."""
    total_steps: int = Field(default=4_000_000, ge=1)
    """Step at which the rate reaches 0."""
    warmup_learning_rate: float = Field(default=0.0002, ge=0)
    """Rate of the first step."""
    warmup_steps: int = Field(default=10_000, ge=0)
    """Steps of linear growth."""
    hold_base_rate_steps: int = Field(default=0, ge=0)
    """Steps at the highest rate before it falls."""


class PolynomialDecay(StrictModel):
    """(base - end) * (1 - step / total_steps) ** power + end."""

    learning_rate_base: float = Field(default=0.002, ge=0)
    """Rate of the first step."""
    total_steps: int = Field(default=4_000_000, ge=1)
    """Steps until end_learning_rate."""
    power: float = Field(default=1.0, gt=0)
    """Exponent."""
    end_learning_rate: float = Field(default=0.0, ge=0)
    """Last rate."""


class TransformerRate(StrictModel):
    """Vaswani et al. 2017, section 5.3."""

    learning_rate_base: float = Field(default=0.002, ge=0)
    """Factor."""
    hidden_size: int = Field(default=128, ge=1)
    """Width of the model."""
    warmup_steps: int = Field(default=10_000, ge=1)
    """Steps of linear growth."""
    step_scaling_rate: float = Field(default=1.0, gt=0)
    """Factor of the step number."""


class LearningRate(StrictModel):
    """Learning rate; set one of the fields. A bare number is a constant rate."""

    constant_learning_rate: ConstantRate | None = None
    """One rate for all steps."""
    exponential_decay_learning_rate: ExponentialDecay | None = None
    """Falls by a factor."""
    manual_step_learning_rate: ManualSteps | None = None
    """Written out."""
    cosine_decay_learning_rate: CosineDecay | None = None
    """Falls like a cosine."""
    poly_decay_learning_rate: PolynomialDecay | None = None
    """Falls like a polynomial."""
    transformer_learning_rate: TransformerRate | None = None
    """Grows linearly, falls like a root."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"constant_learning_rate": {"learning_rate": data}}
        return data


class _Optimizer(StrictModel):
    learning_rate: LearningRate = Field(default_factory=LearningRate)
    """Rate; default: constant 0.002."""


class Sgd(_Optimizer):
    """Stochastic gradient descent. Not in EasyRec."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""


class Momentum(_Optimizer):
    """Stochastic gradient descent with momentum (on tables: without, see the optimizers page)."""

    momentum_optimizer_value: float = Field(default=0.9, ge=0)
    """Momentum."""


class MomentumW(Momentum):
    """Momentum with decoupled weight decay."""

    weight_decay: float = Field(default=1e-6, ge=0)
    """Decoupled weight decay."""


class Adam(_Optimizer):
    """Adam; tables get its lazy form, which touches only the rows of the batch."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the variance."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the variance."""


class AdamW(Adam):
    """Adam with decoupled weight decay (not on tables; they have embedding_l2)."""

    weight_decay: float = Field(default=1e-6, ge=0)
    """Decoupled weight decay."""


class Adagrad(_Optimizer):
    """Adagrad."""

    initial_accumulator_value: float = Field(default=0.1, ge=0)
    """Start of the sum of squares."""
    epsilon: float = Field(default=1e-8, ge=0)
    """Added to the root of the sum of squares."""


class RowWiseAdagrad(Adagrad):
    """Adagrad with one sum for each row of a table (dense parameters get plain Adagrad). Not in EasyRec."""


class RmsProp(_Optimizer):
    """RMSProp (tables: Adagrad's lazy form is the better choice; see the optimizers page)."""

    decay: float = Field(default=0.9, ge=0)
    """Decay of the mean square."""
    momentum_optimizer_value: float = Field(default=0.9, ge=0)
    """Momentum."""
    epsilon: float = Field(default=1.0, gt=0)
    """Added to the root of the mean square."""


class Ftrl(_Optimizer):
    """FTRL-proximal."""

    learning_rate_power: float = -0.5
    """Exponent of the rate."""
    initial_accumulator_value: float = Field(default=0.1, ge=0)
    """Start of the sum of squares."""
    l1_reg: float = Field(default=0.0, ge=0)
    """L1 strength."""
    l2_reg: float = Field(default=0.0, ge=0)
    """L2 strength."""
    l2_shrinkage_reg: float = Field(default=0.0, ge=0)
    """L2 shrinkage strength."""


OPTIMIZER_WORDS = {
    "sgd": "sgd_optimizer",
    "momentum": "momentum_optimizer",
    "momentumw": "momentumw_optimizer",
    "adam": "adam_optimizer",
    "adamw": "adamw_optimizer",
    "lazy_adam": "lazy_adam_optimizer",
    "adagrad": "adagrad_optimizer",
    "rowwise_adagrad": "rowwise_adagrad_optimizer",
    "rms_prop": "rms_prop_optimizer",
    "ftrl": "ftrl_optimizer",
}


class OptimizerConfig(StrictModel):
    """Optimizer; set one of the `*_optimizer` fields. A bare word such as `adam` will do."""

    sgd_optimizer: Sgd | None = None
    """Plain SGD."""
    momentum_optimizer: Momentum | None = None
    """SGD with momentum."""
    momentumw_optimizer: MomentumW | None = None
    """SGD with momentum and decoupled weight decay."""
    adam_optimizer: Adam | None = None
    """Adam."""
    adamw_optimizer: AdamW | None = None
    """Adam with decoupled weight decay."""
    lazy_adam_optimizer: Adam | None = None
    """Adam."""
    adam_async_optimizer: Adam | None = None
    """Asynchronous Adam of a cloud: plain Adam here."""
    adam_asyncw_optimizer: AdamW | None = None
    """Asynchronous AdamW of a cloud: plain AdamW here."""
    adagrad_optimizer: Adagrad | None = None
    """Adagrad."""
    rowwise_adagrad_optimizer: RowWiseAdagrad | None = None
    """Adagrad with one sum a row."""
    rms_prop_optimizer: RmsProp | None = None
    """RMSProp."""
    ftrl_optimizer: Ftrl | None = None
    """FTRL."""
    use_moving_average: bool = False
    """Whether evaluation and export use the moving average of the weights."""
    moving_average_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Decay of that average."""
    embedding_learning_rate_multiplier: float = Field(default=1.0, ge=0)
    """Factor of the learning rate of tables."""
    embedding_l2: float = Field(default=0.0, ge=0)
    """L2 regularization of whole tables: embedding_l2 / 2 * sum of the squares of all rows is added to the loss; a row
    pays when it is read, for all updates since it was read last. (`embedding_regularization` of a model counts a row
    as often as the batch reads it.) Not in EasyRec."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {data: {}}
        if isinstance(data, dict):
            return {OPTIMIZER_WORDS.get(k, k): {} if v is None and k in OPTIMIZER_WORDS else v for k, v in data.items()}
        return data

    @property
    def chosen(self) -> tuple[str, _Optimizer]:
        """Name (without `_optimizer`) and options of the optimizer; Adam where none is set."""
        for key in OPTIMIZER_WORDS.values():
            value = getattr(self, key)
            if value is not None:
                return key.removesuffix("_optimizer"), value
        if self.adam_async_optimizer is not None:
            return "adam", self.adam_async_optimizer
        if self.adam_asyncw_optimizer is not None:
            return "adamw", self.adam_asyncw_optimizer
        return "adam", Adam()


class EarlyStop(StrictModel):
    """Stops when a metric stops improving. Not in EasyRec."""

    metric: str = "auc"
    """Name as in the table of metrics, such as `auc` or `logloss`."""
    patience: int = Field(default=3, ge=1)
    """Evaluations without improvement."""
    bigger: bool | None = None
    """Whether larger is better. Default: told by the metric."""
    min_delta: float = Field(default=0.0, ge=0)
    """Smallest improvement that counts."""


class TrainConfig(StrictModel):
    """Training."""

    optimizer_config: list[OptimizerConfig] = []
    """One optimizer for all; two: tables, the rest; three (with wide groups): wide tables, other tables, the rest."""
    optimizer: OptimizerConfig | None = None
    """Shorthand for one optimizer_config: a word or a message. Not in EasyRec."""
    learning_rate: LearningRate | None = None
    """Shorthand for the rate of `optimizer`: a number or a message. Not in EasyRec."""
    gradient_clipping_by_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the whole gradient; 0: no clipping."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged before one update. Not in EasyRec."""
    num_steps: int = Field(default=0, ge=0)
    """Updates; 0: until the epochs end."""
    num_epochs: int | None = Field(default=None, ge=0)
    """Passes over the training data; overrides data_config.num_epochs. Not in EasyRec."""
    eval_steps: int = Field(default=0, ge=0)
    """Updates between evaluations; 0: at each checkpoint and at each epoch's end. Not in EasyRec."""
    eval_epochs: int = Field(default=1, ge=1)
    """Passes between evaluations, where these follow epochs; the last pass is always evaluated. Not in EasyRec."""
    save_checkpoints_steps: int = Field(default=1000, ge=0)
    """Updates between checkpoints; 0: only at the end of epochs."""
    save_checkpoints_secs: float | None = Field(default=None, gt=0)
    """Seconds between checkpoints; overrides save_checkpoints_steps."""
    keep_checkpoint_max: int = Field(default=10, ge=1)
    """Latest checkpoints that are kept, the best one aside."""
    early_stop: EarlyStop | None = None
    """Stops when a metric stops improving. Not in EasyRec."""
    fine_tune_checkpoint: str = ""
    """Run folder, bundle or checkpoint to start from."""
    fine_tune_ckpt_var_map: str = ""
    """File with lines `name here TAB name in the checkpoint`."""
    force_restore_shape_compatible: bool = False
    """Whether tensors of another size are cut or padded instead of being an error."""
    freeze_gradient: list[str] = []
    """Regular expressions (searched in names of parameters); matching parameters do not learn."""
    mixed_precision: Literal["off", "bf16", "fp16"] = "off"
    """Number format of the forward pass. Not in EasyRec."""
    seed: int = 17
    """Seed of everything drawn at random. Not in EasyRec."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`. Not in EasyRec."""
    embedding_backend: Literal["auto", "torch", "fbgemm"] = "torch"
    """Implementation of tables and their optimizers. Not in EasyRec."""
    log_step_count_steps: int = Field(default=10, ge=1)
    """Updates between log lines."""
    save_summary_steps: int = Field(default=1000, ge=1)
    """Updates between TensorBoard entries."""
    dead_line: str = ""
    """`YYYYMMDD HH:MM:SS`: time at which training stops and saves."""
    train_distribute: str | None = cloud("the number of processes decides: torchrun -m intarsia train")
    sync_replicas: bool | None = cloud("there are no parameter servers")
    sparse_accumulator_type: str | None = cloud("there are no parameter servers")
    startup_delay_steps: float | None = cloud("there are no parameter servers")
    num_gpus_per_worker: int | None = cloud("the number of processes decides")
    is_profiling: bool | None = cloud("use a profiler")
    summary_model_vars: bool | None = cloud("tables are not logged")
    protocol: str | None = cloud("a network protocol of TensorFlow")
    inter_op_parallelism_threads: int | None = cloud("set OMP_NUM_THREADS")
    intra_op_parallelism_threads: int | None = cloud("set OMP_NUM_THREADS")
    tensor_fuse: bool | None = cloud("lookups are always fused")
    write_graph: bool | None = cloud("there is no graph file")
    incr_save_config: dict[str, Any] | None = cloud("rows are not sent to a cloud's server")
    enable_oss_stop_signal: bool | None = cloud("send SIGTERM instead")
