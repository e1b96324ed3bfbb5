"""How a fit ended, in a line, for the HTML that notebooks show of an estimator."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from softreg._arrays import to_numpy

WIDTH, HEIGHT = 120, 22


class StatusMixin:
    """Puts a line on the convergence above the fitted attributes, in HTML.

    It stands before `BaseEstimator`, which calls it for an estimator alone and within
    pipelines and searches.
    """

    # What n_iter_ counts.
    _counted = "iteration"

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return scikit-learn's table of the fitted attributes, below the line."""
        attributes = super()._get_fitted_attr_html(doc_link)  # type: ignore[misc]
        line = _line(self)
        if line:
            attributes._html_repr = partial(_joined, line, attributes._html_repr)
        return attributes


def _joined(line: str, table: Any) -> str:
    return line + table()


def _line(estimator: Any) -> str:
    """Return the line as HTML; nothing of an estimator that was not fitted."""
    fitted = vars(estimator)
    text = status(estimator)
    if text is None:
        return ""
    head, rest = text.split(": ", 1)
    curve = _curve(fitted["history_"]) if "history_" in fitted else ""
    return (
        '<div class="softreg-status" style="margin: 0.5em; text-align: left">'
        f"<b>{html.escape(head)}</b>: {html.escape(rest)}{curve}</div>"
    )


def status(estimator: Any) -> str | None:
    """Return how the fit ended: what ran, how near it came, and what that means.

    Parameters
    ----------
    estimator : estimator
        With the attributes that it has; None is returned where there are none.
    """
    fitted = vars(estimator)
    solver = fitted.get("solver_")
    work = _work(estimator, fitted)
    if "converged_" not in fitted:
        if solver is None or not work:
            return None
        return f"not proven: {solver}, {work} by partial_fit, whose rows were not kept"
    done = bool(fitted["converged_"])
    gap = _gap(estimator, fitted)
    parts = [part for part in (solver, work, gap, _folds(estimator, fitted)) if part]
    said = f"{'converged' if done else 'not converged'}: {', '.join(parts)}"
    return said if done else f"{said}. {_meaning(estimator, fitted)}"


def _work(estimator: Any, fitted: Mapping[str, Any]) -> str:
    """Return how long it took, where the fit is one."""
    if "node_estimators_" in fitted:
        count, what = len(fitted["node_estimators_"]), "node"
    elif isinstance(fitted.get("n_iter_"), int):
        count, what = fitted["n_iter_"], estimator._counted
    else:
        return ""
    return f"{count} {what}" + "s" * (count != 1)


def _relative(fitted: Mapping[str, Any]) -> float:
    """Return the gap relative to the objective; inf where none is proven."""
    gap, objective = fitted.get("optimality_gap_", np.inf), fitted.get("objective_", 0)
    if gap == 0:
        return 0.0
    return float(gap / objective) if objective > 0 else float("inf")


def _gap(estimator: Any, fitted: Mapping[str, Any]) -> str:
    """Return how near the fit is proven to be, beside `tol` if it ends there."""
    relative, tol = _relative(fitted), getattr(estimator, "tol", None)
    if "optimality_gap_" not in fitted:
        return ""
    if not np.isfinite(relative):
        why = " without a penalty" if fitted.get("weight_decay_") == 0 else ""
        return f"no gap is proven{why}"
    said = f"proven relative gap {relative:.1e}"
    if not getattr(estimator, "refit", True):
        return f"{said} of the mean of the folds' coefficients"
    if not isinstance(tol, float | int):
        return said
    return f"{said} {'<=' if relative <= tol else '>'} tol {tol:.1e}"


def _folds(estimator: Any, fitted: Mapping[str, Any]) -> str:
    """Return how many fits of a search are proven."""
    if "optimality_gaps_" not in fitted:
        return ""
    gaps, objectives = map(
        to_numpy, (fitted["optimality_gaps_"], fitted["objectives_"])
    )
    near = gaps <= estimator.tol * objectives
    return f"{np.sum(near)} of {np.size(near)} fits of the folds proven to tol"


def _meaning(estimator: Any, fitted: Mapping[str, Any]) -> str:
    """Return what it means that the fit ended early, and what to do."""
    relative, most = _relative(fitted), getattr(estimator, "max_iter", None)
    # The minimum is at least 0: a gap above the objective says nothing.
    if relative < 1:
        means = f"The objective is at most {relative:.1e} of itself above its minimum"
    else:
        means = "Nothing is proven yet of how far the objective is above its minimum"
    count = fitted.get("n_iter_")
    out_of_iterations = isinstance(count, int) and most is not None and count >= most
    if out_of_iterations:
        return f"{means}; increase max_iter to come nearer."
    return f"{means}; a callback ended it, or the warning of fit says what did."


def _curve(history: Mapping[str, np.ndarray]) -> str:
    """Return the proven gap over the iterations, in logarithms, as a small picture."""
    gap = np.asarray(history["optimality_gap"], dtype=np.float64)
    gap = gap[np.isfinite(gap) & (gap > 0)]
    if len(gap) < 2:
        return ""
    heights = np.log10(gap)
    span = float(np.ptp(heights)) or 1.0
    down = 2 + (HEIGHT - 4) * (heights.max() - heights) / span
    across = np.linspace(2, WIDTH - 2, len(gap))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    what = f"proven gap from {gap[0]:.1e} to {gap[-1]:.1e}, on a logarithmic scale"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" style="display: block; margin-top: 0.3em"><title>{what}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" '
        'stroke-width="1.5"/></svg>'
    )
