"""Losses as potentials of a row of scores (Blondel, Martins & Niculae, 1901.02324).

A loss knows no data, labels, weights or penalty. Scores are class-major,
`(B, K, rows)`: reductions over the classes then run over whole rows of memory, which
NumPy does several times faster than reductions along a short last axis.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from softreg import _projections as projections
from softreg import _top_k as top_k
from softreg._arrays import (
    Array,
    cast,
    inner_over_classes,
    like,
    namespace,
    to_numpy,
)

# Spreads of the scores that a loss of a user's is tried on, and what rounding it may
# have there.
PROBES = np.array([0.0, 1e-2, 0.1, 0.3, 1.0, 1.0, 2.0, 3.0, 5.0, 20.0])
PROBE_TOL = 1e-6
BEFORE_ONE = float(np.nextafter(1.0, 0.0))


class Loss(ABC):
    """A loss of a row of scores: ``f(u) - <u, q>``, f a convex potential.

    A subclass says what f is; pass an object of it as `loss=` of an estimator. Targets,
    weights, penalty, solvers and the proof of the optimum are the library's: they
    need that f is convex, that `f(u + c) = f(u) + c` for a shift c of all scores, that
    its gradient is a distribution over the classes, and that `f(u) >= max(u)`. In
    other words f is conjugate to a convex function Omega of distributions that is
    nowhere above 0, and the loss is that of Fenchel and Young less `Omega(q)`. `fit`
    tries them on a few rows of scores, and refuses a loss that fails there.

    Arrays are class-major, problem first: `(B, K, n_rows)`, floats of 32 or 64 bits of
    the library of the data, whose answers keep their dtype. Objects should be
    unchangeable, and equal where they mean the same, as those of a frozen dataclass
    are: they are copied with the estimator. On a cluster they are pickled: the class
    must be of a module that the workers can import.

    See Also
    --------
    softreg.SoftmaxRegression : Takes it as `loss`.

    Notes
    -----
    `curvature` describes the Hessian of f in the form that every Omega that is a sum
    over the classes has, with `s = 1 / Omega''`. Where f has another Hessian, override
    `hessian_product` with it: `curvature` then only shapes preconditioners and
    `proba_jacobian`.

    References
    ----------
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 21, 2020.

    Examples
    --------
    The softmax, written anew; docs/extending.md has a loss that is not here yet.

    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.losses import Loss
    >>> class LogSumExp(Loss):
    ...     def potential_and_proba(self, shifted):
    ...         proba = np.exp(shifted)
    ...         total = proba.sum(axis=1)
    ...         return np.log(total), proba / total[:, None]
    ...
    ...     def curvature(self, proba):
    ...         return proba, 1.0
    ...
    ...     def scores(self, proba):
    ...         return np.log(proba)
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(loss=LogSumExp()).fit(X, y)
    >>> model.converged_
    True
    """

    @property
    def reaches_zero(self) -> bool:
        """Whether a finite score can have loss 0, by default not.

        If so separated classes have an optimum without a penalty.
        """
        return False

    @abstractmethod
    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return the potential and its gradient, the probabilities.

        Parameters
        ----------
        shifted : array of shape (B, K, n_rows)
            Scores, less the largest of their row: it is 0. Not to be overwritten.

        Returns
        -------
        potential : array of shape (B, n_rows)
            The value of f, at least 0.
        proba : array of shape (B, K, n_rows)
            Its gradient, a new array; sums to one over the classes.
        """

    @abstractmethod
    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return s and its sum, of the Hessian `diag(s) - s s' / sum(s)`.

        Parameters
        ----------
        proba : array of shape (B, K, n_rows)
            Probabilities.

        Returns
        -------
        curvature : array of shape (B, K, n_rows)
            At least 0. The caller does not write to it: it may be `proba` itself.
        total : array of shape (B, 1, n_rows) or float
            Its sum over the classes, above 0.
        """

    @abstractmethod
    def scores(self, proba: Array) -> Array:
        """Return scores that have these probabilities: the gradient of Omega.

        Parameters
        ----------
        proba : array of shape (B, K)
            Frequencies of the classes, all above 0. A fit starts there.

        Returns
        -------
        scores : array of shape (B, K)
            Determined but for a shift of all.
        """

    def proba(self, shifted: Array) -> Array:
        """Return the probabilities alone.

        Parameters
        ----------
        shifted : array of shape (B, K, n_rows)
            Scores, less the largest of their row. Not to be overwritten.

        Returns
        -------
        proba : array of shape (B, K, n_rows)
            Those of `potential_and_proba`. Override it where they are quicker to have
            without the potential: predictions want no more.
        """
        return self.potential_and_proba(shifted)[1]

    def omega(self, proba: Array) -> Array:
        """Return Omega, or more: the bound of the gap is the closer.

        Parameters
        ----------
        proba : array of shape (B, K)
            Distributions over the classes.

        Returns
        -------
        omega : array of shape (B,)
            At most 0, by default that.
        """
        return namespace(proba).zeros_like(proba[:, 0])

    def thinning_cost(self, share: Array, proba: Array) -> Array:
        """Return a bound of what it costs to take a share of each class from all rows.

        With p the probabilities of a row and e the shares, ``r = <e, p>`` is what the
        row loses. The cost is the mean over the rows of ``1 - r`` times the loss of
        Fenchel and Young with the target ``(1 - e) p / (1 - r)``. A loss that knows a
        bound of it has, with many classes and a free intercept, a far closer bound of
        the gap while it is solved. Not asked for is a share equal for all classes: that
        costs nothing.

        Parameters
        ----------
        share : array of shape (B, K)
            From 0 to 1.
        proba : array of shape (B, K)
            Mean probabilities of the classes.

        Returns
        -------
        cost : array of shape (B,)
            By default inf: it is not known.
        """
        xp = namespace(proba)
        return xp.full_like(proba[:, 0], xp.inf)

    def hessian_product(self, shifted: Array, proba: Array, along: Array) -> Array:
        """Return the Hessian of the potential times a direction.

        Parameters
        ----------
        shifted, proba : array of shape (B, K, n_rows)
            Scores and their probabilities.
        along : array of shape (B, K, n_rows)
            The direction; it may be overwritten.

        Returns
        -------
        product : array of shape (B, K, n_rows)
            `s (v - <s, v> / sum(s))`.
        """
        curvature, total = self.curvature(proba)
        along -= inner_over_classes(curvature, along)[:, None, :] / total
        along *= curvature
        return along

    def log_proba(self, shifted: Array) -> Array:
        """Return the logarithm of the probabilities.

        Parameters
        ----------
        shifted : array of shape (B, K, n_rows)
            Scores, less the largest of their row.

        Returns
        -------
        log_proba : array of shape (B, K, n_rows)
            -inf where a probability is exactly 0. Override it where probabilities
            underflow and their logarithms need not.
        """
        return _log(self.potential_and_proba(shifted)[1])


class Softmax(Loss):
    """Log-sum-exp: the multinomial log-likelihood."""

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return log-sum-exp and softmax."""
        return projections.softmax(shifted, 1)

    def proba(self, shifted: Array) -> Array:
        """Return the softmax."""
        return projections.project(shifted, 1, 1)

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return the probabilities: dp/dz = diag(p) - p p'."""
        return proba, 1.0

    def scores(self, proba: Array) -> Array:
        """Return the logarithm."""
        return namespace(proba).log(proba)

    def omega(self, proba: Array) -> Array:
        """Return Shannon's entropy, negative."""
        return projections.entropy(proba, 1, 1)

    def thinning_cost(self, share: Array, proba: Array) -> Array:
        """Return `sum_k p_k g(e_k) - g(r)`, with `g(e) = (1 - e) log(1 - e) + e`.

        It is the mean itself but for the second term, which is convex: that of the mean
        r is at most the mean.
        """
        xp = namespace(proba)
        taken = xp.vecdot(proba, share)
        return xp.vecdot(proba, _thinning(share)) - _thinning(taken)

    def log_proba(self, shifted: Array) -> Array:
        """Form the logarithm from the scores: probabilities may underflow."""
        potential, _ = self.potential_and_proba(shifted)
        return shifted - potential[:, None, :]


@dataclass(frozen=True)
class Entmax(Loss):
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

    def proba(self, shifted: Array) -> Array:
        """Return p."""
        return projections.project(shifted, self.alpha, 1)

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return `p^(2 - alpha)` on the support."""
        curvature = projections.curvature(proba, self.alpha)
        return curvature, namespace(proba).sum(curvature, axis=1, keepdims=True)

    def scores(self, proba: Array) -> Array:
        """Return the gradient of the entropy."""
        return proba ** (self.alpha - 1) / (self.alpha - 1)

    def omega(self, proba: Array) -> Array:
        """Return Tsallis' entropy, negative."""
        return projections.entropy(proba, self.alpha, 1)

    def thinning_cost(self, share: Array, proba: Array) -> Array:
        """Return half of `sum_k p_k e_k^2 - r^2`, over a power of what is left.

        Omega'' falls with p. So the loss at the target `a = (1 - e) p / (1 - r)` is at
        most `sum_k Omega''(l p_k) (a_k - p_k)^2 / 2`, l the least `1 - e_k`; there
        `p^alpha <= p` where alpha > 1.
        """
        if self.alpha < 1:
            return super().thinning_cost(share, proba)
        xp = namespace(proba)
        spread = xp.vecdot(proba, share**2) - xp.vecdot(proba, share) ** 2
        left = 1 - xp.max(share, axis=1)
        power = xp.where(left > 0, left, 1.0) ** (3 - self.alpha)
        return xp.where(left > 0, spread / (2 * power), xp.inf)


@dataclass(frozen=True)
class TopK(Loss):
    """Log-sum-exp of the k largest scores (Sun et al., 2112.12433); 2 <= k < K.

    It has kinks. With a width it is a smooth function above it, and `slack` says by how
    much its gradient may miss a subgradient; see docs/mathematics.md.
    """

    k: int
    width: float = 0.0

    def smoothed(self, width: float) -> TopK:
        """Return the smooth function of a width."""
        return replace(self, width=width)

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
            return super().hessian_product(shifted, proba, along)
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


def _thinning(share: Array) -> Array:
    """Return `(1 - e) log(1 - e) + e`, of 1 that of the number before it."""
    xp = namespace(share)
    inside = xp.minimum(share, BEFORE_ONE)
    return (1 - inside) * xp.log1p(-inside) + inside


def _log(proba: Array) -> Array:
    """Return the logarithm, -inf of 0."""
    xp = namespace(proba)
    positive = proba > 0
    log = xp.log(xp.where(positive, proba, xp.ones_like(proba)))
    return xp.where(positive, log, xp.full_like(log, -xp.inf))


def breach_of(loss: Loss, n_classes: int, place: Array) -> str | None:
    """Return what the proof needs of a loss and this one has not, on a few scores.

    Values and gradients of a convex f support it: no line that touches it at one row
    of scores is above it at another. So wrong gradients are found as well.
    """
    rows = np.random.default_rng(0).normal(size=(n_classes, len(PROBES))) * PROBES
    shifted = like((rows - rows.max(axis=0))[None, :, :], place)
    value, proba = loss.potential_and_proba(shifted)
    scores = loss.scores(like(np.full((1, n_classes), 1 / n_classes), place))
    for name, own, shape in (
        ("potential", value, (1, len(PROBES))),
        ("proba", proba, shifted.shape),
        ("scores", scores, (1, n_classes)),
    ):
        got = getattr(own, "shape", None)
        if got != shape:
            return f"{name} must have shape {shape}, got {got}"
        if not np.isfinite(to_numpy(own)).all():
            return f"{name} must be finite, got NaN or infinity"
    values, p, u = to_numpy(value)[0], to_numpy(proba)[0], to_numpy(shifted)[0]
    if values.min() < -PROBE_TOL:
        return f"f(u) must be at least max(u), got {values.min():.3g} below"
    if p.min() < -PROBE_TOL or np.abs(p.sum(axis=0) - 1).max() > PROBE_TOL:
        return (
            "proba must be at least 0 and sum to one over the classes, got "
            f"{p.min():.3g} and sums to {p.sum(axis=0).max():.3g}"
        )
    # Entry (i, j): of the line that touches at i, at j.
    line = values[:, None] + p.T @ u - (p * u).sum(axis=0)[:, None]
    above = (line - values) / (1 + np.abs(line) + values)
    if above.max() > PROBE_TOL:
        return (
            "f must be convex and proba its gradient, got lines that touch it at one "
            f"row of scores and are {above.max():.1e} above it at another"
        )
    alone = to_numpy(loss.proba(shifted))
    if not np.allclose(alone[0], p, rtol=0, atol=PROBE_TOL):
        return "proba must return what potential_and_proba returns, got another"
    # Omega of what has these scores: f is its conjugate.
    exact = (p * u).sum(axis=0) - values
    omega = to_numpy(loss.omega(proba[0, ...].T))
    if not ((omega >= exact - PROBE_TOL) & (omega <= PROBE_TOL)).all():
        return (
            "omega must be from Omega to 0, got "
            f"{(omega - exact).min():.3g} more than Omega and up to {omega.max():.3g}"
        )
    return None


def shift_to_top(scores: Array) -> Array:
    """Return the scores less each row's largest, in place where the library can."""
    return split_top(scores)[1]


def split_top(scores: Array) -> tuple[Array, Array]:
    """Return each row's largest score (B, rows), and the scores less that, in place."""
    top = namespace(scores).max(scores, axis=1, keepdims=True)
    scores -= top
    return top[:, 0, :], scores


def clipped(log_proba: Array, least: float) -> Array:
    """Return log-probabilities between `least` and `log(1 - exp(least))`.

    The first is what a class pays that is thought impossible, as in
    `sklearn.metrics.log_loss`.
    """
    return namespace(log_proba).clip(log_proba, least, math.log1p(-math.exp(least)))


ORDERS = {"softmax": 1.0, "entmax15": 1.5, "sparsemax": 2.0}


TOP_K = re.compile(r"topk-([0-9]+)")


def loss_of(name: str | float | Loss, n_classes: int) -> Loss:
    """Return the loss of a name or an order, which have been checked."""
    if isinstance(name, Loss):
        return name
    if isinstance(name, str) and (match := TOP_K.fullmatch(name)):
        k = int(match[1])
        return TopK(k) if k < n_classes else Softmax()
    return loss_of_order(ORDERS[name] if isinstance(name, str) else float(name))


def loss_of_order(alpha: float) -> Loss:
    """Return the loss of Tsallis' entropy of an order."""
    return Softmax() if alpha == 1 else Entmax(alpha)
