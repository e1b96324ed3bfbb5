"""Expressions that write the nodes of an ONNX graph as they are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto, ValueInfoProto, helper, numpy_helper

INNERMOST = np.array([-1])
Type = tuple[int, list[int | None]]
COUNT: Type = (TensorProto.INT64, [])
FLAG: Type = (TensorProto.BOOL, [])
COLUMN: Type = (TensorProto.DOUBLE, [None, 1])
ROWS: Type = (TensorProto.DOUBLE, [None, None])


class Graph:
    """Where nodes and constants go: the container of a conversion of skl2onnx."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self._container = scope, container

    def node(self, kind: str, *inputs: Any, **attributes: Any) -> Value:
        """Add a node of one value."""
        return self.nodes(kind, 1, *inputs, **attributes)[0]

    def nodes(
        self, kind: str, n_values: int, *inputs: Any, **attributes: Any
    ) -> list[Value]:
        """Add a node of several values."""
        names = [self.name(kind) for _ in range(n_values)]
        self.add(kind, [self.value(one).name for one in inputs], names, attributes)
        return [Value(self, name) for name in names]

    def name(self, kind: str) -> str:
        """Return a name that nothing has yet."""
        return self.scope.get_unique_variable_name(f"softreg_{kind}")

    def value(self, given: Any) -> Value:
        """Return what is given as a value; numbers and arrays become constants."""
        if isinstance(given, Value):
            return given
        name = self.name("constant")
        self._set(name, np.asarray(given))
        return Value(self, name)

    def add(
        self, kind: str, inputs: list[str], outputs: list[str], attributes: Any
    ) -> None:
        """Add a node under given names."""
        self._container.add_node(kind, inputs, outputs, **attributes)

    def _set(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind in "OU":
            texts = [text.encode() for text in array.tolist()]
            self._container.add_initializer(
                name, TensorProto.STRING, array.shape, texts
            )
        else:
            tensor = numpy_helper.from_array(array, name)
            self._container.add_initializer(name, None, None, tensor)


class Body(Graph):
    """The graph of a loop's step, which sees nothing outside of itself."""

    def __init__(self, scope: Any) -> None:
        super().__init__(scope, None)
        self._nodes: list[Any] = []
        self._constants: list[TensorProto] = []

    def proto(self, inputs: list[Any], outputs: list[Any]) -> GraphProto:
        """Return the graph, given what goes in and comes out."""
        return helper.make_graph(
            self._nodes, self.name("body"), inputs, outputs, self._constants
        )

    def add(
        self, kind: str, inputs: list[str], outputs: list[str], attributes: Any
    ) -> None:
        """Add a node under given names."""
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def _set(self, name: str, array: np.ndarray) -> None:
        self._constants.append(numpy_helper.from_array(array, name))


@dataclass(frozen=True)
class Value:
    """A value of a graph by its name; arithmetic on it adds nodes."""

    graph: Graph
    name: str

    def __add__(self, other: Any) -> Value:
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.node("Sub", self, other)

    def __mul__(self, other: Any) -> Value:
        return self.graph.node("Mul", self, other)

    def __truediv__(self, other: Any) -> Value:
        return self.graph.node("Div", self, other)

    def __pow__(self, other: Any) -> Value:
        return self.graph.node("Pow", self, other)

    def __matmul__(self, other: Any) -> Value:
        return self.graph.node("MatMul", self, other)

    def __gt__(self, other: Any) -> Value:
        return self.graph.node("Greater", self, other)

    def __le__(self, other: Any) -> Value:
        return self.graph.node("LessOrEqual", self, other)

    def equals(self, other: Any) -> Value:
        """Return where the entries are equal."""
        return self.graph.node("Equal", self, other)

    def relu(self) -> Value:
        """Return the positive part."""
        return self.graph.node("Relu", self)

    def at_least(self, bound: float) -> Value:
        """Return the entries, or the bound where it is larger."""
        return self.graph.node("Max", self, bound)

    def sqrt(self) -> Value:
        """Return the square root."""
        return self.graph.node("Sqrt", self)

    def softmax(self) -> Value:
        """Return the softmax of each row."""
        return self.graph.node("Softmax", self, axis=-1)

    def argmax(self) -> Value:
        """Return the place of each row's largest entry, the first of equals."""
        return self.graph.node("ArgMax", self, axis=-1, keepdims=0)

    def sum(self) -> Value:
        """Return each row's sum, as a column."""
        return self.graph.node("ReduceSum", self, INNERMOST)

    def cumulative_sum(self) -> Value:
        """Return the sums of each row's first entries."""
        return self.graph.node("CumSum", self, np.array(-1))

    def largest(self, k: int) -> tuple[Value, Value]:
        """Return each row's k largest in order, and their places; ties as argmax."""
        top, places = self.graph.nodes("TopK", 2, self, np.array([k]), axis=-1)
        return top, places

    def columns(self, places: Any) -> Value:
        """Return some columns."""
        return self.graph.node("Gather", self, places, axis=-1)

    def where(self, condition: Value) -> Value:
        """Return the entries where a condition holds, and 0 elsewhere."""
        return self.graph.node("Where", condition, self, 0.0)

    def any(self) -> Value:
        """Return whether any entry holds."""
        count = self.graph.node("ReduceMax", self.to(TensorProto.FLOAT), keepdims=0)
        return count.to(TensorProto.BOOL)

    def to(self, kind: int) -> Value:
        """Return the value as another type of ONNX's."""
        return self.graph.node("Cast", self, to=kind)

    def double(self) -> Value:
        """Return the value as float64."""
        return self.to(TensorProto.DOUBLE)

    def becomes(self, name: str) -> None:
        """Make this the value of a name that the graph promises."""
        self.graph.add("Identity", [self.name], [name], {})


def while_rising(
    step: Callable[[Value, Value], Value], start: Value, data: Value, at_most: int
) -> Value:
    """Return x (n, 1) after `x = step(x, data)`, repeated while any entry rises."""
    graph = start.graph
    body = Body(graph.scope)
    count, going, x, own = (Value(body, body.name("in")) for _ in range(4))
    moved = step(x, own)
    left = [(moved > x).any(), moved, body.node("Identity", own)]
    proto = body.proto(
        _typed([count, going, x, own], COUNT, FLAG, COLUMN, ROWS),
        _typed(left, FLAG, COLUMN, ROWS),
    )
    trips, begun = np.array(at_most), np.array(True)
    return graph.nodes("Loop", 2, trips, begun, start, data, body=proto)[0]


def _typed(values: list[Value], *types: Type) -> list[ValueInfoProto]:
    pairs = zip(values, types, strict=True)
    return [helper.make_tensor_value_info(value.name, *type_) for value, type_ in pairs]
