"""The objective by its definition, in float64: what every library is judged by."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def objective(X: Any, y: Any, coef: Any, intercept: Any, C: float = 1.0) -> float:
    """Return mean loss + ||coef||^2 / (2 C n), a block of rows at a time."""
    xp = array_namespace(coef)
    coef = xp.astype(coef, xp.float64)
    intercept = xp.astype(intercept, xp.float64)
    total, n_rows = 0.0, X.shape[0]
    for start in range(0, n_rows, 4096):
        rows, codes = X[start : start + 4096], y[start : start + 4096]
        scores = xp.asarray(rows.astype(xp.float64) @ coef.T) + intercept
        own = scores[xp.arange(codes.shape[0]), codes]
        top = xp.max(scores, axis=1)
        terms = xp.exp(scores - top[:, None])
        total += float(xp.sum(xp.log(xp.sum(terms, axis=1)) + (top - own)))
    return (total + float(xp.sum(coef * coef)) / (2 * C)) / n_rows
