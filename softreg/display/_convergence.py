"""`ConvergenceDisplay`: how fits come near their optimum, and how near is proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from softreg._arrays import on_host
from softreg._parameters import check_choice
from softreg.display._panels import panels, shown_of

X_LABELS = {"passes": "passes over X", "seconds": "seconds"}
# Parameters beside lambda that make another objective.
OF_THE_OBJECTIVE = (
    "loss",
    "temperature",
    "label_smoothing",
    "margin",
    "fit_intercept",
    "penalize_intercept",
    "class_weight",
)
NAMES = ("objective above best known", "proven gap")
# Iterations that can be told apart in a line.
MAX_MARKERS = 60
# Of a value, what is rounding of it.
ROUNDING = 8 * np.finfo(np.float64).eps


class ConvergenceDisplay:
    """Objective and proven gap of fits, against passes over X or seconds.

    Above, how far each iteration's objective is from the best known; a triangle
    on the lower edge is the best itself. Below, the proven bound of the distance to the
    true minimum, and dotted where `tol` ends the fit.

    Parameters
    ----------
    histories : dict of str to dict of ndarray
        The `history_` of each fit, by its label.
    best : dict of str to float
        The least objective known of each fit's problem.
    targets : dict of str to float
        The gap at which each fit ends, `tol * objective_`. Labels may be missing.
    x : {"passes", "seconds"}, default="passes"
        What the fits are drawn against.

    Attributes
    ----------
    ax_ : ndarray of shape (2,) of matplotlib Axes
        Objective and gap.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    SoftmaxRegression : Its `history_` is what is shown.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.display import ConvergenceDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> fits = {
    ...     name: SoftmaxRegression(solver=name).fit(X, y)
    ...     for name in ["lbfgs", "newton-cg"]
    ... }
    >>> display = ConvergenceDisplay.from_estimator(fits)
    >>> [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    ['lbfgs', 'newton-cg']
    """

    def __init__(
        self,
        *,
        histories: Mapping[str, Mapping[str, np.ndarray]],
        best: Mapping[str, float],
        targets: Mapping[str, float],
        x: str = "passes",
    ) -> None:
        self.histories = histories
        self.best = best
        self.targets = targets
        self.x = x

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, x: str = "passes", ax: Any = None
    ) -> ConvergenceDisplay:
        """Draw fitted estimators.

        Parameters
        ----------
        estimator : estimator, list of estimators, or dict of str to estimator
            Fitted, with a `history_`: `SoftmaxRegression`, `SoftmaxRegressionCV` (the
            fit of all rows), `LargeMarginSoftmaxRegression`; or a pipeline or search of
            scikit-learn around one. Those of a list are called by their solver, those
            of a dict by its keys. They are taken to be fitted on the same X and y:
            estimators of the same lambda, loss and number of coefficients share the
            best known objective.
        x : {"passes", "seconds"}, default="passes"
            Reads of X, or seconds since the start of the fit.
        ax : axes or pair of axes, default=None
            Where to draw; None makes a figure, a single axes is shared by the panels.

        Returns
        -------
        display : ConvergenceDisplay
            What was drawn.

        Raises
        ------
        ValueError
            For another x, no estimators, or one without a history.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        _check_x(x)
        fitted = _named(estimator)
        for label, model in fitted.items():
            if not hasattr(model, "history_"):
                raise ValueError(
                    f"estimator must have a history_, got {label!r}, a "
                    f"{type(model).__name__} without. fit of SoftmaxRegression keeps "
                    "one; partial_fit, whose rows are gone, does not."
                )
        problems = {label: _problem_of(model) for label, model in fitted.items()}
        least: dict[str, float] = {}
        for label, model in fitted.items():
            problem, value = problems[label], np.min(model.history_["objective"])
            least[problem] = min(least.get(problem, np.inf), float(value))
        display = cls(
            histories={label: model.history_ for label, model in fitted.items()},
            best={label: least[problem] for label, problem in problems.items()},
            targets={
                label: model.tol * model.objective_ for label, model in fitted.items()
            },
            x=x,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ConvergenceDisplay:
        """Draw objective and gap.

        Parameters
        ----------
        ax : axes or pair of axes, default=None
            Where to draw; None makes a figure, a single axes is shared by the panels.

        Returns
        -------
        display : ConvergenceDisplay
            This object, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            For another number of axes, or another x.
        """
        _check_x(self.x)
        axes = panels(ax, 2, size=(6.4, 3.2), share_x=True)
        floor = self._floor()
        for i, (label, history) in enumerate(self.histories.items()):
            style: dict[str, Any] = {"color": f"C{i % 10}", "linewidth": 1.2}
            style["linestyle"] = "-" if i < 10 else "--"
            at = np.asarray(history[self.x])
            style["marker"] = "." if len(at) <= MAX_MARKERS else None
            excess = _excess(history["objective"], self.best[label])
            # The best itself, which has no logarithm, ends at the lower edge.
            axes[0].plot(at, np.maximum(excess, floor), label=label, **style)
            if (excess == 0).any():
                first = int(np.argmax(excess == 0))
                axes[0].plot(
                    at[first], floor, marker="v", color=style["color"], clip_on=False
                )
            gap = np.asarray(history["optimality_gap"], dtype=np.float64)
            gap = np.where(np.isfinite(gap), gap, np.nan)
            axes[1].plot(at, gap, label=label, **style)
        self._dress(axes, floor)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _floor(self) -> float:
        """Return a little less than the least distance to the best that is above 0."""
        excess = [
            _excess(history["objective"], self.best[label])
            for label, history in self.histories.items()
        ]
        above = np.concatenate(excess)
        above = above[above > 0]
        return float(above.min()) / 10 if len(above) else float(np.finfo(float).tiny)

    def _dress(self, axes: np.ndarray, floor: float) -> None:
        """Set scales, labels, legends and where `tol` ends the fits."""
        axes[0].set_yscale("log")
        axes[0].set_ylim(bottom=floor)
        gaps = [np.asarray(line.get_ydata()) for line in axes[1].get_lines()]
        proven = [bool((gap > 0).any()) for gap in gaps]
        if any(proven):
            axes[1].set_yscale("log", nonpositive="clip")
            self._mark_targets(axes[1], proven)
        else:
            axes[1].set_yticks([])
            axes[1].text(
                0.5, 0.5, "no gap is proven of these fits", ha="center", va="center",
                transform=axes[1].transAxes,
            )  # fmt: skip
        shared = axes[0].get_shared_x_axes().joined(axes[0], axes[1])
        for ax, name in zip(axes, NAMES, strict=True):
            ax.set_ylabel(name)
            ax.grid(alpha=0.3)
            if ax is axes[1] or not shared:
                ax.set_xlabel(X_LABELS[self.x])
        axes[0].legend(fontsize="small")

    def _mark_targets(self, ax: Any, proven: list[bool]) -> None:
        """Draw where the fits end: one line for all if they end at about the same."""
        targets = [self.targets.get(label, 0.0) for label in self.histories]
        marked = [
            (f"C{i % 10}", target)
            for i, (target, has_gap) in enumerate(zip(targets, proven, strict=True))
            if has_gap and target > 0
        ]
        if not marked:
            return
        lowest = min(target for _, target in marked)
        if max(target for _, target in marked) <= 1.1 * lowest:
            marked = [("0.3", lowest)]
        for i, (colour, target) in enumerate(marked):
            label = "tol" if i == 0 else None
            ax.axhline(target, color=colour, linestyle=":", linewidth=1, label=label)
        lines = [line for line in ax.get_lines() if line.get_label() == "tol"]
        ax.legend(handles=lines, fontsize="small")


def _excess(objective: np.ndarray, best: float) -> np.ndarray:
    """Return how far values are from the best; 0 where that is rounding."""
    excess = np.asarray(objective, dtype=np.float64) - best
    return np.where(excess > ROUNDING * abs(best), excess, 0.0)


def _check_x(x: Any) -> None:
    check_choice("x", x, list(X_LABELS), "Both are columns of history_.")


def _named(estimator: Any) -> dict[str, Any]:
    """Return the fitted estimators by their labels."""
    if isinstance(estimator, Mapping):
        named = {str(label): shown_of(one)[0] for label, one in estimator.items()}
    else:
        several = isinstance(estimator, list | tuple)
        named = {}
        for one in estimator if several else [estimator]:
            model = shown_of(one)[0]
            name = label = str(getattr(model, "solver_", type(model).__name__))
            count = 1
            while label in named:
                count += 1
                label = f"{name} ({count})"
            named[label] = model
    if not named:
        raise ValueError("estimator must be fitted estimators, got none. Pass one.")
    return named


def _problem_of(model: Any) -> str:
    """Return what tells objectives over the same rows apart."""
    params = [repr(on_host(getattr(model, name, None))) for name in OF_THE_OBJECTIVE]
    decay, kind = f"{model.weight_decay_:.10g}", type(model).__name__
    if "SoftmaxRegression" in (kind, kind.removesuffix("CV")):
        kind = ""
    return " ".join([kind, decay, str(model.coef_.shape), *params])
