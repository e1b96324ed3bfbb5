"""Losses as potentials of a row of scores (Blondel, Martins & Niculae, 1901.02324).

A loss knows no data, labels, weights or penalty. Scores are class-major,
`(B, K, rows)`: reductions over the classes then run over whole rows of memory, which
NumPy does several times faster than reductions along a short last axis.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple, Protocol

from softreg import _projections as projections
from softreg import _top_k as top_k
from softreg._arrays import Array, cast, inner_over_classes, namespace


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

    def hessian_product(self, shifted: Array, proba: Array, along: Array) -> Array:
        """Return dp/dz times a direction (B, K, rows), which is overwritten."""

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

    def hessian_product(self, shifted: Array, proba: Array, along: Array) -> Array:
        """Return `p (v - <p, v>)`."""
        return _curved(*self.curvature(proba), along)

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

    def hessian_product(self, shifted: Array, proba: Array, along: Array) -> Array:
        """Return `s (v - <s, v> / sum(s))`."""
        return _curved(*self.curvature(proba), along)

    def scores(self, proba: Array) -> Array:
        """Return the gradient of the entropy."""
        return proba ** (self.alpha - 1) / (self.alpha - 1)

    def log_proba(self, shifted: Array) -> Array:
        """Take the logarithm where it is finite."""
        return _log(projections.project(shifted, self.alpha, 1))


class TopK(NamedTuple):
    """Log-sum-exp of the k largest scores (Sun et al., 2112.12433); 2 <= k < K.

    It has kinks. With a width it is a smooth function above it, and `slack` says by how
    much its gradient may miss a subgradient; see docs/mathematics.md.
    """

    k: int
    width: float = 0.0

    @property
    def reaches_zero(self) -> bool:
        """No: of two chosen classes each has some probability."""
        return False

    def smoothed(self, width: float) -> TopK:
        """Return the smooth function of a width."""
        return self._replace(width=width)

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return the value, and its gradient or a subgradient."""
        if self.width == 0:
            return top_k.top_softmax(shifted, self.k)
        xp = namespace(shifted)
        choice = top_k.choose(shifted, self.k, self.width)
        proba = choice.proba
        proba = proba / xp.sum(proba, axis=1, keepdims=True)
        return self._value(choice), cast(proba, shifted.dtype)

    def _value(self, choice: top_k.Choice) -> Array:
        missing = self.k - inner_over_classes(choice.weight, choice.weight)
        return namespace(missing).log1p(choice.rest) + self.width / 2 * missing

    def slack(self, shifted: Array) -> tuple[Array, Array]:
        """Return how far this is above the exact loss, and eps, (B, rows) each.

        The gradient is an eps-subgradient of the exact loss: it supports it from eps
        below.
        """
        xp = namespace(shifted)
        choice = top_k.choose(shifted, self.k, self.width)
        exact, _ = top_k.top_softmax(cast(shifted, xp.float64), self.k)
        eps = exact - xp.log1p(choice.rest)
        return self._value(choice) - exact, xp.where(eps > 0, eps, xp.zeros_like(eps))

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return the curvature with the choice of classes held fixed."""
        return proba, 1.0

    def hessian_product(self, shifted: Array, proba: Array, along: Array) -> Array:
        """Return the product of the smooth function's Hessian, or of a softmax's."""
        if self.width == 0:
            return _curved(proba, 1.0, along)
        choice = top_k.chosen(shifted, proba, self.k)
        return top_k.hessian_product(choice, self.width, along)

    def scores(self, proba: Array) -> Array:
        """Return the softmax's."""
        return namespace(proba).log(proba)

    def log_proba(self, shifted: Array) -> Array:
        """Return -inf outside the k largest."""
        xp = namespace(shifted)
        inside = projections.top_classes(shifted, self.k, 1)
        outside = xp.full_like(shifted, -xp.inf)
        return Softmax().log_proba(xp.where(inside, shifted, outside))


def _curved(curvature: Array, total: Array | float, along: Array) -> Array:
    along -= inner_over_classes(curvature, along)[:, None, :] / total
    along *= curvature
    return along


def _log(proba: Array) -> Array:
    """Return the logarithm, -inf of 0."""
    xp = namespace(proba)
    positive = proba > 0
    log = xp.log(xp.where(positive, proba, xp.ones_like(proba)))
    return xp.where(positive, log, xp.full_like(log, -xp.inf))


def shift_to_top(scores: Array) -> Array:
    """Return the scores less each row's largest, in place where the library can."""
    scores -= namespace(scores).max(scores, axis=1, keepdims=True)
    return scores


def clipped(log_proba: Array, least: float) -> Array:
    """Return log-probabilities between `least` and `log(1 - exp(least))`.

    The first is what a class pays that is thought impossible, as in
    `sklearn.metrics.log_loss`.
    """
    return namespace(log_proba).clip(log_proba, least, math.log1p(-math.exp(least)))


ORDERS = {"softmax": 1.0, "entmax15": 1.5, "sparsemax": 2.0}


TOP_K = re.compile(r"topk-([0-9]+)")


def loss_of(name: str | float, n_classes: int) -> Loss:
    """Return the loss of a name or an order, which have been checked."""
    if isinstance(name, str) and (match := TOP_K.fullmatch(name)):
        k = int(match[1])
        return TopK(k) if k < n_classes else Softmax()
    return loss_of_order(ORDERS[name] if isinstance(name, str) else float(name))


def loss_of_order(alpha: float) -> Loss:
    """Return the loss of Tsallis' entropy of an order."""
    return Softmax() if alpha == 1 else Entmax(alpha)
