"""Scores to distributions as ONNX graphs: what `softreg._projections` computes.

Scores are float64, a row a row of X.
"""

from __future__ import annotations

import numpy as np

from softreg._losses import Entmax, Loss, Softmax, TopK
from softreg._projections import MAX_NEWTON
from softreg.onnx._graph import Value, while_rising

# So near 1 an order is the softmax, but its powers are all rounding.
NEAR_ONE = 1e-8


def distribution(scores: Value, loss: Loss, n_classes: int) -> Value:
    """Return the probabilities (n, K) of scores (n, K)."""
    if isinstance(loss, TopK):
        return _top_softmax(scores, loss.k)
    if isinstance(loss, Softmax):
        return scores.softmax()
    if isinstance(loss, Entmax):
        return _entmax_of(scores, loss.alpha, n_classes)
    raise NotImplementedError(
        f"{type(loss).__name__} has no graph yet. Use one of the losses of "
        "SoftmaxRegression."
    )


def _entmax_of(scores: Value, alpha: float, n_classes: int) -> Value:
    if abs(alpha - 1) < NEAR_ONE:
        return scores.softmax()
    top, _ = scores.largest(1)
    shifted = scores - top
    if alpha == 2:
        return _sparsemax(shifted, n_classes)
    if alpha == 1.5:
        return _entmax15(shifted, n_classes)
    return _entmax(shifted, alpha)


def _top_softmax(scores: Value, k: int) -> Value:
    top, places = scores.largest(k)
    nothing = scores.where(scores > np.inf)
    return scores.graph.node("ScatterElements", nothing, places, top.softmax(), axis=1)


def _sparsemax(shifted: Value, n_classes: int) -> Value:
    count = np.arange(1.0, n_classes + 1)
    ordered, _ = shifted.largest(n_classes)
    support = ordered * count + 1.0 > ordered.cumulative_sum()
    size = support.double().sum()
    threshold = (ordered.where(support).sum() - 1.0) / size
    return (shifted - threshold).relu()


def _entmax15(shifted: Value, n_classes: int) -> Value:
    count = np.arange(1.0, n_classes + 1)
    half = (shifted / 2.0).at_least(-2.0)
    ordered, _ = half.largest(n_classes)
    mean = ordered.cumulative_sum() / count
    square = (ordered * ordered).cumulative_sum() / count
    room = ((mean * mean - square) * count + 1.0) / count
    thresholds = mean - room.relu().sqrt()
    size = (thresholds <= ordered).double().sum()
    threshold = thresholds.where(size.equals(count)).sum()
    return (half - threshold).relu() ** 2.0


def _entmax(shifted: Value, alpha: float) -> Value:
    """Newton's method on the threshold, in a loop."""

    def base(scores: Value, threshold: Value) -> Value:
        return ((scores - threshold) * (alpha - 1) + 1.0).relu()

    def step(threshold: Value, scores: Value) -> Value:
        inside = base(scores, threshold)
        excess = (inside ** (1 / (alpha - 1))).sum() - 1.0
        slope = (inside ** ((2 - alpha) / (alpha - 1))).sum()
        return threshold + excess / slope

    top, _ = shifted.largest(1)
    threshold = while_rising(step, top, shifted, MAX_NEWTON)
    proba = base(shifted, threshold) ** (1 / (alpha - 1))
    return proba / proba.sum()
