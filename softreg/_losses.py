"""Losses as potentials of a row of scores (Blondel, Martins & Niculae, 1901.02324).

A loss knows no data, labels, weights or penalty. Scores are class-major,
`(B, K, rows)`: reductions over the classes then run over whole rows of memory, which
NumPy does several times faster than reductions along a short last axis.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from softreg import _projections as projections
from softreg._arrays import Array, inner_over_classes, namespace


class Loss(Protocol):
    """A potential with its gradient, the shape of its Hessian, and its inverse."""

    @property
    def reaches_zero(self) -> bool:
        """Whether a finite score can have loss 0."""

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return the potential (B, rows) and its gradient (B, K, rows).

        The largest entry of `shifted` over the classes is 0.
        """

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return s (B, K, rows) and its sum: dp/dz = diag(s) - s s' / sum(s).

        The sum is (B, 1, rows), or one number.
        """

    def scores(self, proba: Array) -> Array:
        """Return scores that have these positive probabilities."""

    def log_proba(self, shifted: Array) -> Array:
        """Return the logarithm of the probabilities; -inf where they are exactly 0."""


class Softmax:
    """Log-sum-exp: the multinomial log-likelihood."""

    reaches_zero = False

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return log-sum-exp and softmax."""
        return projections.softmax(shifted, 1)

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return the probabilities: dp/dz = diag(p) - p p'."""
        return proba, 1.0

    def scores(self, proba: Array) -> Array:
        """Return the logarithm."""
        return namespace(proba).log(proba)

    def log_proba(self, shifted: Array) -> Array:
        """Form the logarithm from the scores: probabilities may underflow."""
        potential, _ = self.potential_and_proba(shifted)
        return shifted - potential[:, None, :]


class Entmax(NamedTuple):
    """The loss of Tsallis' entropy of order alpha in (0, 2], other than 1."""

    alpha: float

    @property
    def reaches_zero(self) -> bool:
        """Whether a row whose class leads by 1 / (alpha - 1) has loss 0."""
        return self.alpha > 1

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return `<z, p> - Omega(p)` and p."""
        proba = projections.project(shifted, self.alpha, 1)
        linear = inner_over_classes(shifted, proba)
        return linear - projections.entropy(proba, self.alpha, 1), proba

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return `p^(2 - alpha)` on the support."""
        curvature = projections.curvature(proba, self.alpha)
        return curvature, namespace(proba).sum(curvature, axis=1, keepdims=True)

    def scores(self, proba: Array) -> Array:
        """Return the gradient of the entropy."""
        return proba ** (self.alpha - 1) / (self.alpha - 1)

    def log_proba(self, shifted: Array) -> Array:
        """Take the logarithm where it is finite."""
        xp = namespace(shifted)
        proba = projections.project(shifted, self.alpha, 1)
        positive = proba > 0
        log = xp.log(xp.where(positive, proba, xp.ones_like(proba)))
        return xp.where(positive, log, xp.full_like(log, -xp.inf))


def shift_to_top(scores: Array) -> Array:
    """Return the scores less each row's largest, in place where the library can."""
    scores -= namespace(scores).max(scores, axis=1, keepdims=True)
    return scores


ORDERS = {"softmax": 1.0, "entmax15": 1.5, "sparsemax": 2.0}


def loss_of(name: str | float) -> Loss:
    """Return the loss of a name or an order, which have been checked."""
    alpha = ORDERS[name] if isinstance(name, str) else float(name)
    return Softmax() if alpha == 1 else Entmax(alpha)
