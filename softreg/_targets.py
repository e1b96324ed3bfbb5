"""What a row should be: a class or a distribution, smoothed, with a margin.

With q0 the target as given, the target of the loss is `q = (1 - eps) q0 + eps / K`,
and the margin adds `q0 @ cost` to the scores in training. Both are affine, so
convexity, the certificate and every solver hold for every combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from softreg._arrays import (
    Array,
    cast,
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
