"""Losses as potentials of a row of scores (Blondel, Martins & Niculae, 1901.02324).

A loss knows no data, labels, weights or penalty. Scores are class-major,
`(B, K, rows)`: reductions over the classes then run over whole rows of memory, which
NumPy does several times faster than reductions along a short last axis.
"""

from __future__ import annotations

from typing import Protocol

from softreg._arrays import Array, inner_over_classes, namespace

# A row is easy where all classes but one weigh less than this together.
EASY = 1e-3


class Loss(Protocol):
    """A potential with its gradient and the shape of its Hessian."""

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return the potential (B, rows) and its gradient (B, K, rows).

        The largest entry of `shifted` over the classes is 0.
        """

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return s (B, K, rows) and its sum: dp/dz = diag(s) - s s' / sum(s)."""


class Softmax:
    """Log-sum-exp: the multinomial log-likelihood."""

    def potential_and_proba(self, shifted: Array) -> tuple[Array, Array]:
        """Return log-sum-exp and softmax.

        Of easy rows the sum of all terms but the largest is formed alone: log(total)
        would be 0 from a gap of scores of 40 on (Blanchard, Higham & Higham 2021).
        """
        xp = namespace(shifted)
        proba = xp.exp(shifted)
        total = xp.sum(proba, axis=1, keepdims=True)
        rest = total - 1
        easy = rest < EASY
        if bool(xp.any(easy)):
            # The sign is -1 for all classes but the largest: no mask as large as both.
            others = -inner_over_classes(xp.sign(shifted), proba)
            rest = xp.where(easy, others[:, None, :], rest)
        proba /= total
        return xp.log1p(rest)[:, 0, :], proba

    def curvature(self, proba: Array) -> tuple[Array, Array | float]:
        """Return the probabilities: dp/dz = diag(p) - p p'."""
        return proba, 1.0


def shift_to_top(scores: Array) -> Array:
    """Return the scores less each row's largest, in place where the library can."""
    scores -= namespace(scores).max(scores, axis=1, keepdims=True)
    return scores


LOSSES: dict[str, Loss] = {"softmax": Softmax()}
