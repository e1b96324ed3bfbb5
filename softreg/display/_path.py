"""`RegularizationPathDisplay`: scores and coefficients along the values of C."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from softreg._cross_validation import SoftmaxRegressionCV
from softreg._fitted import fitted_here
from softreg._search import chosen_index
from softreg.display._panels import inner_of, panels

# Lines that can be told apart in one panel.
MAX_LINES = 60


class RegularizationPathDisplay:
    """Scores over the folds, and coefficients, along the values of C.

    Above, the mean score with one standard error to each side and a thin line a fold;
    the C of the highest mean and that of the one-standard-error rule are marked, and
    the one that the estimator chose is named. Below, the coefficients at each C, means
    over the folds, a line each: of all classes, those that grow largest.

    Parameters
    ----------
    Cs : ndarray of shape (n_Cs,)
        Values of C, rising.
    scores : ndarray of shape (n_folds, n_Cs)
        Score of each fold at each C.
    coefs : ndarray of shape (n_Cs, n_classes, n_features)
        Mean coefficients at each C.
    best : int
        Which C has the highest mean score; of equals the smallest.
    one_standard_error : int or None
        Which C is the smallest whose mean score is within one standard error of the
        highest; None of a single fold.
    chosen : int
        Which C the estimator chose.
    score_name : str
        What the scores are.
    classes : ndarray of shape (n_classes,) or None
        Labels, for the legend of up to ten classes.

    Attributes
    ----------
    ax_ : ndarray of shape (2,) of matplotlib Axes
        Scores and coefficients.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    SoftmaxRegressionCV : The search that it shows.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegressionCV
    >>> from softreg.display import RegularizationPathDisplay
    >>> search = SoftmaxRegressionCV(Cs=5, cv=3).fit(*load_wine(return_X_y=True))
    >>> display = RegularizationPathDisplay.from_estimator(search)
    >>> display.figure_.savefig("path.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        Cs: np.ndarray,
        scores: np.ndarray,
        coefs: np.ndarray,
        best: int,
        one_standard_error: int | None,
        chosen: int,
        score_name: str = "score",
        classes: np.ndarray | None = None,
    ) -> None:
        self.Cs = Cs
        self.scores = scores
        self.coefs = coefs
        self.best = best
        self.one_standard_error = one_standard_error
        self.chosen = chosen
        self.score_name = score_name
        self.classes = classes

    @classmethod
    def from_estimator(cls, cv: Any, *, ax: Any = None) -> RegularizationPathDisplay:
        """Draw a fitted `SoftmaxRegressionCV`.

        Parameters
        ----------
        cv : SoftmaxRegressionCV
            The fitted search; or a pipeline or search of scikit-learn around one.
        ax : axes or pair of axes, default=None
            Where to draw scores and coefficients; None makes a figure, a single axes is
            shared by the panels.

        Returns
        -------
        display : RegularizationPathDisplay
            What was drawn.

        Raises
        ------
        TypeError
            For anything that is no search over C.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        cv, _ = inner_of(cv)
        if not isinstance(cv, SoftmaxRegressionCV):
            raise TypeError(
                f"cv must be a SoftmaxRegressionCV, got {type(cv).__name__}. Only a "
                "search over C has a path to show."
            )
        check_is_fitted(cv)
        cv = fitted_here(cv)
        order = np.argsort(cv.Cs_, kind="stable")
        # What a callback left out has no scores.
        order = order[np.isfinite(cv.scores_[:, order]).all(axis=0)]
        Cs, scores = cv.Cs_[order], cv.scores_[:, order]
        paths = cv.coefs_paths_[:, order].astype(np.float64)
        # A class is averaged over the folds that have it.
        has = np.isfinite(paths[..., -1:])
        coefs = np.where(has, paths[..., :-1], 0.0).sum(axis=0)
        coefs /= np.maximum(has.sum(axis=0), 1)
        display = cls(
            Cs=Cs,
            scores=scores,
            coefs=coefs,
            best=chosen_index(Cs, scores, "best"),
            one_standard_error=(
                chosen_index(Cs, scores, "1se") if len(scores) > 1 else None
            ),
            chosen=int(np.flatnonzero(Cs == cv.C_)[0]),
            score_name=_name_of(cv.scoring),
            classes=cv.classes_,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Any = None) -> RegularizationPathDisplay:
        """Draw scores and coefficients.

        Parameters
        ----------
        ax : axes or pair of axes, default=None
            Where to draw; None makes a figure, a single axes is shared by the panels.

        Returns
        -------
        display : RegularizationPathDisplay
            This object, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            For another number of axes.
        """
        axes = panels(ax, 2, size=(6.4, 3.2), share_x=True)
        self._plot_scores(axes[0])
        self._plot_coefs(axes[1])
        if not axes[0].get_shared_x_axes().joined(axes[0], axes[1]):
            axes[0].set_xlabel("C")
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _plot_scores(self, ax: Any) -> None:
        n_folds, mean = len(self.scores), self.scores.mean(axis=0)
        for fold, scores in enumerate(self.scores):
            label = "each fold" if fold == 0 else None
            ax.plot(
                self.Cs, scores, color="C0", alpha=0.25, linewidth=0.8, label=label,
                marker=self._marker,
            )  # fmt: skip
        ax.plot(self.Cs, mean, color="C0", marker="o", markersize=4, label="mean")
        if n_folds > 1:
            error = self.scores.std(axis=0, ddof=1) / n_folds**0.5
            ax.fill_between(
                self.Cs, mean - error, mean + error, color="C0", alpha=0.2, linewidth=0,
                label="mean ± 1 standard error",
            )  # fmt: skip
        for index, name, style in self._marks():
            taken = " (chosen)" if index == self.chosen else ""
            label = f"{name}{taken}: C = {self.Cs[index]:.3g}"
            ax.axvline(self.Cs[index], color="C3", linestyle=style, label=label)
        ax.set(xscale="log", ylabel=self.score_name)
        ax.legend(fontsize="small")

    @property
    def _marker(self) -> str | None:
        """What marks the points of a line: a single one has no line."""
        return "_" if len(self.Cs) == 1 else None

    def _marks(self) -> list[tuple[int, str, str]]:
        """Return index, name and line style of each C that is marked.

        The line of the chosen one is solid.
        """
        if self.one_standard_error is None:
            return [(self.best, "best", "-")]
        if self.one_standard_error == self.best:
            return [(self.best, "best and 1-SE", "-")]
        marked = [(self.best, "best"), (self.one_standard_error, "1-SE")]
        return [(i, name, "-" if i == self.chosen else "--") for i, name in marked]

    def _plot_coefs(self, ax: Any) -> None:
        lines = self.coefs.reshape(len(self.Cs), -1)
        sizes = np.abs(lines).max(axis=0)
        shown = np.argsort(-sizes, kind="stable")[:MAX_LINES]
        n_classes, n_features = self.coefs.shape[1:]
        labels = [] if self.classes is None else self.classes.tolist()
        named = 1 < n_classes <= 10 and len(labels) == n_classes
        seen = set()
        for line in np.sort(shown):
            code = int(line) // n_features
            label = str(labels[code]) if named and code not in seen else None
            seen.add(code)
            ax.plot(
                self.Cs, lines[:, line], color=f"C{code % 10}", linewidth=0.8,
                alpha=0.8, label=label, marker=self._marker,
            )  # fmt: skip
        if named:
            ax.legend(title="class", fontsize="x-small", ncols=2)
        for index, _, style in self._marks():
            ax.axvline(self.Cs[index], color="C3", linestyle=style)
        # Small ones would be flat beside those without much penalty. At a power of ten
        # the ticks around 0 keep apart.
        largest = sizes.max() if sizes.max() > 0 else 1.0
        linear = 10.0 ** np.floor(np.log10(largest / 100))
        ax.set_yscale("symlog", linthresh=linear)
        what = (
            f"{len(shown)} largest of {lines.shape[1]} coefficients"
            if len(shown) < lines.shape[1]
            else "coefficients"
        )
        colours = "" if n_classes == 1 else ", a colour a class"
        ax.set(xscale="log", xlabel="C", ylabel="mean coefficient")
        ax.set_title(f"{what}{colours}", fontsize="medium")


def _name_of(scoring: Any) -> str:
    """Return what the scores are called."""
    if scoring is None:
        return "accuracy"
    if isinstance(scoring, str):
        return scoring.replace("_", " ").replace("neg log loss", "negative log-loss")
    return getattr(scoring, "__name__", "score")
