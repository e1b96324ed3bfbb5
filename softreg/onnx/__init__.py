"""Fitted models as ONNX graphs, by way of skl2onnx.

After `register_converters()`, `skl2onnx.to_onnx` and `convert_sklearn` know the
estimators of softreg, alone and in pipelines, stacks and other estimators that skl2onnx
converts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from softreg._arrays import is_foreign, is_sparse, on_host, place_of
from softreg._cross_validation import SoftmaxRegressionCV
from softreg._hierarchical import HierarchicalSoftmax
from softreg._large_margin import LargeMarginSoftmaxRegression
from softreg._prediction import LinearSoftmaxMixin
from softreg._robust import RobustSoftmaxRegression
from softreg._softmax import SoftmaxRegression
from softreg._trees import Tree

try:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, guess_proto_type
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
    )
except ImportError as error:
    raise ImportError(
        "softreg.onnx converts with skl2onnx, which is not installed. Run pip install "
        '"softreg[onnx]".'
    ) from error

from softreg.onnx._graph import Graph, Value
from softreg.onnx._projections import distribution

__all__ = ["register_converters"]

LINEAR = (
    SoftmaxRegression,
    SoftmaxRegressionCV,
    RobustSoftmaxRegression,
    LargeMarginSoftmaxRegression,
)
# The first version in which a softmax is along an axis and a sum is told its axes.
LEAST_OPSET = 13
OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def register_converters() -> None:
    """Tell skl2onnx how to convert the estimators of softreg.

    Afterwards `skl2onnx.to_onnx` and `skl2onnx.convert_sklearn` convert
    `SoftmaxRegression`, `SoftmaxRegressionCV`, `RobustSoftmaxRegression`,
    `LargeMarginSoftmaxRegression` and `HierarchicalSoftmax`, with any loss, alone or as
    part of what skl2onnx converts: pipelines, `ColumnTransformer`,
    `CalibratedClassifierCV`, `StackingClassifier` and so on. To call it again does no
    harm.

    Notes
    -----
    The options are those of scikit-learn's linear classifiers: `zipmap`, `nocl`,
    `output_class_labels` and, but for `HierarchicalSoftmax`, `raw_scores`, with which
    the second output is `decision_function` in place of `predict_proba`. Of two classes
    it has two columns then, the second that of `decision_function`, the first its
    negative. Labels that are no strings come out as int64.

    The graph computes in float64 and answers in the type of its input, which is float32
    where the example that `to_onnx` gets is. Then scores equal those of
    `decision_function` at the same float32 rows to rounding. What the input itself
    loses as float32 no graph can restore: columns whose offset is large beside their
    spread (years, timestamps) want a float64 example.

    Nodes of `HierarchicalSoftmax` must be estimators of softreg, and labels NumPy's,
    not torch's or CuPy's.

    Examples
    --------
    >>> import numpy as np
    >>> import onnxruntime
    >>> import skl2onnx
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.onnx import register_converters
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression().fit(X, y)
    >>> register_converters()
    >>> graph = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    >>> session = onnxruntime.InferenceSession(graph.SerializeToString())
    >>> labels, proba = session.run(None, {"X": X})
    >>> bool((labels == model.predict(X)).all())
    True
    >>> np.testing.assert_allclose(proba, model.predict_proba(X), atol=1e-12)
    """
    for estimator in LINEAR:
        options = {**OPTIONS, "raw_scores": [True, False]}
        _register(estimator, _convert_linear, options)
    _register(HierarchicalSoftmax, _convert_hierarchical, OPTIONS)


def _register(estimator: type, converter: Callable, options: dict[str, Any]) -> None:
    skl2onnx.update_registered_converter(
        estimator,
        f"Softreg{estimator.__name__}",
        _set_shapes,
        converter,
        options=options,
    )


def _set_shapes(operator: Any) -> None:
    """Say what comes out: labels (n,), and a column a class."""
    model = operator.raw_operator
    check_is_fitted(model)
    if is_foreign(model.classes_):
        raise TypeError(
            "classes_ must be NumPy's to be converted, got those of "
            f"{place_of(model.classes_)}. Fit arrays of NumPy, with device='cuda' for "
            "the GPU."
        )
    calculate_linear_classifier_output_shapes(operator)
    answer = operator.outputs[1]
    for other in operator.scope_inst.operators.values():
        # The maps of ONNX hold float32 only.
        if other.type == "SklearnZipMap" and answer in other.inputs:
            answer.set_type(FloatTensorType(answer.type.shape))


def _convert_linear(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = _graph(scope, container)
    coef, intercept = _coefficients(model)
    scores = _input(graph, operator) @ coef.T + intercept
    raw = container.get_options(model, {"raw_scores": False})["raw_scores"]
    answer = scores if raw else _probabilities(model, scores)
    _give(operator, scope, answer, scores.argmax())


def _convert_hierarchical(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = _graph(scope, container)
    nodes = model.node_estimators_
    strange = [node for node in nodes if not isinstance(node, LinearSoftmaxMixin)]
    if strange:
        raise NotImplementedError(
            "The nodes of a HierarchicalSoftmax must be linear models of softreg to be "
            f"converted, got {type(strange[0]).__name__}. Fit it with estimator="
            "SoftmaxRegression(...), and put scaling in a pipeline around it."
        )
    linear = [_coefficients(node) for node in nodes]
    coef = np.concatenate([coef for coef, _ in linear])
    intercept = np.concatenate([intercept for _, intercept in linear])
    scores = _input(graph, operator) @ coef.T + intercept
    cuts = np.cumsum([0] + [len(own) for _, own in linear])
    parts = [
        _probabilities(node, scores.columns(np.arange(start, stop)))
        for node, start, stop in zip(nodes, cuts[:-1], cuts[1:], strict=True)
    ]
    every = graph.node("Concat", *parts, axis=1)
    proba = _products(every, model._tree)
    _give(operator, scope, proba, proba.argmax())


def _products(every: Value, tree: Tree) -> Value:
    """Return the products along the paths of the probabilities at all nodes."""
    padding = np.array([0, 0, 0, 1])
    padded = every.graph.node("Pad", every, padding, 1.0)
    column_of_ones = sum(len(node.children) for node in tree.nodes)
    # Gathered level by level, so that the graph grows with the depth alone.
    first, *others = zip_longest(*_paths(tree), fillvalue=column_of_ones)
    proba = padded.columns(np.array(first))
    for level in others:
        proba = proba * padded.columns(np.array(level))
    return proba


def _paths(tree: Tree) -> list[list[int]]:
    """Return for each class the columns on its path, of those of all nodes in order."""
    paths: list[list[int]] = [[] for _ in tree.order]
    reached: dict[int, list[int]] = {0: []}
    column = 0
    for index, node in enumerate(tree.nodes):
        above = reached.pop(index)
        for child, start in zip(node.children, node.cuts[:-1], strict=True):
            if child < 0:
                paths[tree.order[start]] = [*above, column]
            else:
                reached[child] = [*above, column]
            column += 1
    return paths


def _graph(scope: Any, container: Any) -> Graph:
    opset = container.target_opset_any_domain("")
    if opset < LEAST_OPSET:
        raise ValueError(
            f"target_opset must be at least {LEAST_OPSET} to convert estimators of "
            f"softreg, got {opset}. Leave it out, or raise it."
        )
    return Graph(scope, container)


def _input(graph: Graph, operator: Any) -> Value:
    """Return X in float64: scores may be small differences of large products."""
    return Value(graph, operator.inputs[0].full_name).double()


def _coefficients(model: LinearSoftmaxMixin) -> tuple[np.ndarray, np.ndarray]:
    """Return W (K, d) and b (K,); of two classes those of `decision_function`."""
    coef, intercept = on_host(model.coef_), on_host(model.intercept_)
    coef = np.asarray(coef.toarray() if is_sparse(coef) else coef, dtype=np.float64)
    intercept = np.asarray(intercept, dtype=np.float64)
    if len(coef) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    if len(coef) == 1:
        coef, intercept = (
            np.concatenate([-coef, coef]),
            np.append(-intercept, intercept),
        )
    return coef, intercept


def _probabilities(model: LinearSoftmaxMixin, scores: Value) -> Value:
    """Return the probabilities of the scores of `_coefficients`."""
    n_classes = len(model.classes_)
    scale = model._temperature * (2 if n_classes == 2 else 1)
    return distribution(scores / float(scale), model._loss, n_classes)


def _give(operator: Any, scope: Any, answer: Value, codes: Value) -> None:
    """Make these the outputs: the labels of the codes, and the answer in its type."""
    model, (label, second) = operator.raw_operator, operator.outputs
    classes = model.classes_
    if scope.get_options(model, {"nocl": False})["nocl"]:
        classes = np.arange(len(classes))
    if not isinstance(classes[0], str):
        classes = classes.astype(np.int64)
    labels = answer.graph.node("Gather", classes, codes)
    labels.becomes(label.full_name)
    answer.to(guess_proto_type(second.type)).becomes(second.full_name)
