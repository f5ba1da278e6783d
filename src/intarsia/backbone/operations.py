"""What a block does to its merged input: components by name, lambdas, and copies of components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from intarsia.backbone.graph import Lambda, Recurrent, Repeat
from intarsia.config.schema import Block, Layer
from intarsia.config.schema.model import LayerStep
from intarsia.core.errors import BuildError
from intarsia.core.expressions.tensors import compile_lambda, compile_slice
from intarsia.nn import catalogue
from intarsia.nn.component import options
from intarsia.nn.shapes import describe, shape_of


def operation(config: Block | LayerStep, value: Any) -> nn.Module | None:
    """The operation of a block or of one of its steps, sized by `value`; None passes the value on."""
    if isinstance(config, Block) and config.layers:
        steps: list[nn.Module] = []
        for step in config.layers:
            module = operation(step, value) or nn.Identity()
            value = module.eval()(value)
            steps.append(module)
        return nn.Sequential(*steps)
    if len(config.kinds) > 1:
        raise BuildError(f"a block has one operation. Received: {', '.join(kind.rstrip('_') for kind in config.kinds)}")
    if config.layer is not None:
        return component(config.layer, value)
    if config.lambda_ is not None:
        return Lambda(expression=config.lambda_.expression)
    if config.recurrent is not None:
        return _recurrent(config.recurrent.layer, value, config.recurrent.num_steps, config.recurrent.fixed_input_index)
    if config.repeat is not None:
        repeat = config.repeat
        select = _selector(repeat.input_slice, repeat.input_fn)
        copies = [component(repeat.layer, select(value, i)) for i in range(repeat.num_repeat)]
        return Repeat(copies=copies, select=select, axis=repeat.output_concat_axis)
    return None


def _recurrent(layer: Layer, value: Any, num_steps: int, fixed: int | None) -> Recurrent:
    if fixed is not None and not (isinstance(value, list | tuple) and 0 <= fixed < len(value)):
        raise BuildError(
            f"fixed_input_index {fixed} needs a list of inputs with such an element. "
            f"Received: {describe(shape_of(value))}"
        )
    chain = Recurrent(steps=[], fixed=fixed)
    for _ in range(num_steps):
        step = component(layer, value)
        chain.steps.append(step)
        value = chain.advance(value, step.eval()(value))
    return chain


def _selector(slice_text: str | None, function_text: str | None) -> Callable[[Any, int], Any]:
    cut = compile_slice(slice_text) if slice_text else None
    function = compile_lambda(function_text, 2) if function_text else None

    def select(value: Any, i: int) -> Any:
        if cut is not None:
            value = cut(value, i)
        return value if function is None else function(value, i)

    return select


def component(layer: Layer, value: Any) -> nn.Module:
    """The component that a `layer` message names, sized by `value`.

    Raises:
        BuildError: No such component, or its options or inputs do not fit.
    """
    entry = catalogue.resolve(layer.class_name)
    given = (layer.model_extra or {}).get(entry.field) if entry.field else None
    if given is None:
        given = layer.st_params or {}
    module: nn.Module = entry.cls.from_inputs(shape_of(value), **options(entry.cls, given, layer.class_name))
    return module
