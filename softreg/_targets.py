"""What a row should be: a class or a distribution, smoothed, with a margin.

With q0 the target as given, the target of the loss is `q = (1 - eps) q0 + eps / K`,
and the margin adds `q0 @ cost` to the scores in training. Both are affine, so
convexity, the certificate and every solver hold for every combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from softreg._arrays import (
    Array,
    cast,
    like,
    namespace,
    one_hot,
    subtract_at_class,
    subtract_one_hot,
    take_class,
)


class Targets(Protocol):
    """The targets of the rows of one block."""

    def add_margin(self, scores: Array) -> Array:
        """Return scores (B, K, rows) with the margin added; input is overwritten."""

    def inner(self, scores: Array) -> Array:
        """Return <q, scores> over the classes, (B, rows)."""

    def subtract_from(self, proba: Array) -> Array:
        """Return p - q; input is overwritten."""

    def dense(self, dtype: object) -> Array:
        """Return q, (K, rows)."""

    def margin(self, dtype: object) -> Array | None:
        """Return the margins, (K, rows), or None where there are none."""

    def of_rows(self, rows: slice) -> Targets:
        """Return the targets of some rows."""

    def joined(self, others: Sequence[Any]) -> Targets:
        """Return these targets followed by others of the kind."""

    def on(self, reference: Array) -> Targets:
        """Return the targets in the library and on the device of an array."""

    def plain(self) -> Any:
        """Return the targets as given: no smoothing, no margin."""

    def at(self, rows: Array) -> Targets:
        """Return the targets of rows by their numbers."""

    def share_of(self, classes: np.ndarray) -> np.ndarray:
        """Return how much of each row is of these classes, (rows,)."""

    def of_classes(self, classes: np.ndarray) -> Targets:
        """Return targets of these classes only; rows of others must weigh nothing."""


class HardTargets(NamedTuple):
    """Class codes (rows,) with label smoothing and a cost matrix (K, K) or None."""

    codes: Array
    n_classes: int
    smoothing: float = 0.0
    cost: Array | None = None

    def add_margin(self, scores: Array) -> Array:
        """Add the cost of each row's class."""
        if self.cost is None:
            return scores
        scores += self.margin(scores.dtype)
        return scores

    def inner(self, scores: Array) -> Array:
        """Pick the class's score, and mix in the mean where labels are smoothed."""
        chosen = take_class(scores, self.codes)
        if self.smoothing == 0:
            return chosen
        mean = namespace(scores).mean(scores, axis=1)
        return (1 - self.smoothing) * chosen + self.smoothing * mean

    def subtract_from(self, proba: Array) -> Array:
        """Subtract `1 - eps` at the class and `eps / K` everywhere."""
        if self.smoothing == 0:
            return subtract_one_hot(proba, self.codes)
        residual = subtract_at_class(proba, self.codes, 1 - self.smoothing)
        residual -= self.smoothing / self.n_classes
        return residual

    def dense(self, dtype: object) -> Array:
        """Return the smoothed one-hot rows."""
        chosen = cast(one_hot(self.codes, self.n_classes), dtype)
        if self.smoothing == 0:
            return chosen
        return (1 - self.smoothing) * chosen + self.smoothing / self.n_classes

    def margin(self, dtype: object) -> Array | None:
        """Return the row of the cost matrix that belongs to each class."""
        if self.cost is None:
            return None
        xp = namespace(self.cost)
        return cast(xp.take(self.cost.T, self.codes, axis=1), dtype)

    def of_rows(self, rows: slice) -> HardTargets:
        """Take the codes of some rows."""
        return self._replace(codes=self.codes[rows])

    def joined(self, others: Sequence[HardTargets]) -> HardTargets:
        """Append the codes of others."""
        codes = [self.codes, *(other.codes for other in others)]
        return self._replace(codes=namespace(self.codes).concat(codes))

    def on(self, reference: Array) -> HardTargets:
        """Move codes and costs."""
        cost = None if self.cost is None else like(self.cost, reference)
        return self._replace(codes=like(self.codes, reference), cost=cost)

    def plain(self) -> HardTargets:
        """Return the classes alone."""
        return HardTargets(self.codes, self.n_classes)

    def at(self, rows: Array) -> HardTargets:
        """Take the codes of rows by their numbers."""
        return self._replace(codes=namespace(self.codes).take(self.codes, rows))

    def share_of(self, classes: np.ndarray) -> np.ndarray:
        """Return how much of each row is of these classes, (rows,)."""
        return np.isin(self.codes, classes).astype(np.float64)

    def of_classes(self, classes: np.ndarray) -> HardTargets:
        """Return targets of these classes only; rows of others must weigh nothing."""
        codes = np.zeros(self.n_classes, dtype=self.codes.dtype)
        codes[classes] = np.arange(len(classes))
        return HardTargets(
            codes[self.codes], len(classes), self.smoothing, _part(self.cost, classes)
        )


class SoftTargets(NamedTuple):
    """Distributions (rows, K) with label smoothing and a cost matrix (K, K) or None."""

    rows: Array
    smoothing: float = 0.0
    cost: Array | None = None

    def add_margin(self, scores: Array) -> Array:
        """Add the mean cost under each row's distribution."""
        if self.cost is None:
            return scores
        scores += self.margin(scores.dtype)
        return scores

    def inner(self, scores: Array) -> Array:
        """Return the mean score under q."""
        return namespace(scores).sum(self.dense(scores.dtype) * scores, axis=1)

    def subtract_from(self, proba: Array) -> Array:
        """Subtract q."""
        proba -= self.dense(proba.dtype)
        return proba

    def dense(self, dtype: object) -> Array:
        """Return the smoothed rows, class-major."""
        rows = cast(self.rows.T, dtype)
        return (1 - self.smoothing) * rows + self.smoothing / self.rows.shape[1]

    def margin(self, dtype: object) -> Array | None:
        """Return `(q0 @ cost)'`."""
        if self.cost is None:
            return None
        return cast((cast(self.rows, self.cost.dtype) @ self.cost).T, dtype)

    def of_rows(self, rows: slice) -> SoftTargets:
        """Take the distributions of some rows."""
        return self._replace(rows=self.rows[rows, :])

    def joined(self, others: Sequence[SoftTargets]) -> SoftTargets:
        """Append the rows of others."""
        rows = [self.rows, *(other.rows for other in others)]
        return self._replace(rows=namespace(self.rows).concat(rows, axis=0))

    def on(self, reference: Array) -> SoftTargets:
        """Move rows and costs."""
        cost = None if self.cost is None else like(self.cost, reference)
        return self._replace(rows=like(self.rows, reference), cost=cost)

    def plain(self) -> SoftTargets:
        """Return the distributions as given."""
        return SoftTargets(self.rows)

    def at(self, rows: Array) -> SoftTargets:
        """Take the distributions of rows by their numbers."""
        return self._replace(rows=namespace(self.rows).take(self.rows, rows, axis=0))

    def share_of(self, classes: np.ndarray) -> np.ndarray:
        """Return how much of each row is of these classes, (rows,)."""
        return self.rows[:, classes].sum(axis=1, dtype=np.float64)

    def of_classes(self, classes: np.ndarray) -> SoftTargets:
        """Return targets of these classes only; rows of others must weigh nothing."""
        cost = _part(self.cost, classes)
        return SoftTargets(self.rows[:, classes], self.smoothing, cost)


def _part(cost: Array | None, classes: np.ndarray) -> Array | None:
    """Return the cost matrix of some classes."""
    return None if cost is None else cost[np.ix_(classes, classes)]
