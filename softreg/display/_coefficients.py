"""`CoefficientDisplay`: what speaks for each class, as bars or as images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse

from softreg._arrays import on_host
from softreg._parameters import is_whole
from softreg.display._panels import panels, shown_of

# Panels that a figure can hold.
MAX_PANELS = 100
# Letters of a name that leave room for its bar.
MAX_LETTERS = 28
FOR, AGAINST = "C0", "C3"


class CoefficientDisplay:
    """The coefficients of each class: the largest as bars, or all of them as an image.

    A panel a class, in the order of `classes_`; one panel for two classes, where
    positive coefficients speak for the second. Blue speaks for the class, red against
    it; bars of all panels have one scale, and so have images.

    Parameters
    ----------
    coef : ndarray or sparse matrix of shape (n_panels, n_features)
        Coefficients, a row a panel.
    classes : array-like of shape (n_classes,)
        Labels: as many as rows, or two for one row.
    feature_names : array-like of shape (n_features,), default=None
        Names, for bars; None is x0, x1, ...
    top : int, default=10
        How many bars a panel has at most: the largest coefficients by size, none of 0.
    image_shape : (int, int), default=None
        Height and width of the images that the rows of `coef` are; None draws bars.

    Attributes
    ----------
    ax_ : ndarray of shape (n_panels,) of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure.
    colorbar_ : matplotlib Colorbar or None
        Of the images.

    See Also
    --------
    RegularizationPathDisplay : The coefficients along C.

    Examples
    --------
    The words of classes, by name, from a pipeline:

    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.pipeline import make_pipeline
    >>> from softreg import SoftmaxRegression
    >>> from softreg.display import CoefficientDisplay
    >>> texts = ["red apples", "green pears", "red and green grapes", "red plums"]
    >>> model = make_pipeline(CountVectorizer(), SoftmaxRegression())
    >>> model = model.fit(texts, ["apple", "pear", "grape", "plum"])
    >>> display = CoefficientDisplay.from_estimator(model, top=3)
    >>> len(display.ax_), display.ax_[0].get_yticklabels()[0].get_text()
    (4, 'apples')

    Pixels, as images:

    >>> from sklearn.datasets import load_digits
    >>> model = SoftmaxRegression(C=0.01).fit(*load_digits(return_X_y=True))
    >>> display = CoefficientDisplay.from_estimator(model, image_shape=(8, 8))
    >>> len(display.ax_)
    10
    """

    def __init__(
        self,
        *,
        coef: Any,
        classes: Any,
        feature_names: Any = None,
        top: int = 10,
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        self.coef = coef
        self.classes = classes
        self.feature_names = feature_names
        self.top = top
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        top: int = 10,
        feature_names: Any = None,
        image_shape: tuple[int, int] | None = None,
        ax: Any = None,
    ) -> CoefficientDisplay:
        """Draw a fitted linear classifier.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `coef_` and `classes_`; or a pipeline or search of scikit-learn
            around one.
        top : int, default=10
            How many bars a panel has at most.
        feature_names : array-like of shape (n_features,), default=None
            Names of the columns of `coef_`; None takes those that the steps before a
            pipeline's last give, else `feature_names_in_`, else x0, x1, ...
        image_shape : (int, int), default=None
            Height and width of the images that rows are; None draws bars.
        ax : axes or array-like of axes, default=None
            Where to draw; None makes a figure, a single axes is shared by the panels.

        Returns
        -------
        display : CoefficientDisplay
            What was drawn.

        Raises
        ------
        TypeError
            For an estimator without coefficients.
        ValueError
            For names, top, image_shape or axes that do not fit.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        model, before = shown_of(estimator)
        if not (hasattr(model, "coef_") and hasattr(model, "classes_")):
            raise TypeError(
                "estimator must have coef_ and classes_, got a "
                f"{type(model).__name__}. Pass a linear classifier; of a tree of "
                "classes, one of node_estimators_."
            )
        if feature_names is None:
            feature_names = _names_of(model, before)
        display = cls(
            coef=on_host(model.coef_),
            classes=on_host(model.classes_),
            feature_names=feature_names,
            top=top,
            image_shape=image_shape,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Any = None) -> CoefficientDisplay:
        """Draw a panel a class.

        Parameters
        ----------
        ax : axes or array-like of axes, default=None
            Where to draw; None makes a figure, a single axes is shared by the panels.

        Returns
        -------
        display : CoefficientDisplay
            This object, with `ax_`, `figure_` and `colorbar_`.

        Raises
        ------
        ValueError
            For names, top, image_shape or axes that do not fit.
        """
        coef = self.coef.toarray() if scipy.sparse.issparse(self.coef) else self.coef
        coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
        titles = self._titles(len(coef))
        if self.image_shape is not None:
            axes = self._plot_images(coef, ax)
        else:
            axes = self._plot_bars(coef, ax)
        for panel, title in zip(axes, titles, strict=True):
            panel.set_title(_short(title), fontsize="medium", parse_math=False)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _titles(self, n_panels: int) -> list[str]:
        """Return the title of each panel."""
        labels = [str(label) for label in np.asarray(self.classes).tolist()]
        if n_panels > MAX_PANELS:
            raise ValueError(
                f"estimator must have at most {MAX_PANELS} classes to show, got "
                f"{n_panels}. Show some: CoefficientDisplay(coef=model.coef_[rows], "
                "classes=model.classes_[rows]).plot()."
            )
        if n_panels == 1 and len(labels) == 2:
            return [f"{labels[1]} against {labels[0]}"]
        if len(labels) != n_panels:
            raise ValueError(
                f"classes must be {n_panels} labels, one a row of coef, got "
                f"{len(labels)}. Pass as many."
            )
        return labels

    def _plot_images(self, coef: np.ndarray, ax: Any) -> np.ndarray:
        height, width = _checked_shape(self.image_shape, coef.shape[1])
        n_columns = min(len(coef), max(5, math.ceil(len(coef) ** 0.5)))
        tall = min(max(height / width, 0.3), 3.0)
        axes = panels(
            ax,
            len(coef),
            n_columns=n_columns,
            size=(1.7, 1.7 * tall + 0.3),
            layout="compressed",
        )
        largest = np.abs(coef).max() or 1.0
        for panel, row in zip(axes, coef, strict=True):
            image = panel.imshow(
                row.reshape(height, width), cmap="RdBu", vmin=-largest, vmax=largest,
                interpolation="nearest",
            )  # fmt: skip
            panel.set(xticks=[], yticks=[])
        self.colorbar_ = axes[0].figure.colorbar(
            image, ax=list(axes), label="coefficient", shrink=0.8
        )
        return axes

    def _plot_bars(self, coef: np.ndarray, ax: Any) -> np.ndarray:
        top = min(_checked_top(self.top), coef.shape[1])
        names = _checked_names(self.feature_names, coef.shape[1])
        n_panels = len(coef)
        n_columns = n_panels if n_panels < 4 else min(4, math.ceil(n_panels**0.5))
        axes = panels(
            ax,
            n_panels,
            n_columns=n_columns,
            size=(3.4, 0.8 + 0.19 * max(top, 3)),
            apart=(1.4, 0.5),
        )
        # Enough for axis limits of one scale: what is shown, not all of it.
        low = high = 0.0
        for panel, row in zip(axes, coef, strict=True):
            shown = np.argsort(-np.abs(row), kind="stable")[:top]
            shown = shown[row[shown] != 0]
            values = row[shown]
            low, high = min(low, *values, 0.0), max(high, *values, 0.0)
            colours = [FOR if value > 0 else AGAINST for value in values]
            panel.barh(np.arange(len(values)), values, color=colours, height=0.75)
            panel.axvline(0, color="0.3", linewidth=0.8)
            panel.set_ylim(top - 0.5, -0.5)
            panel.set_yticks(
                np.arange(len(shown)), [_short(names[i]) for i in shown],
                fontsize="small", parse_math=False,
            )  # fmt: skip
        room = 0.05 * (high - low) or 1.0
        for i, panel in enumerate(axes):
            panel.set_xlim(low - room * (low < 0), high + room * (high > 0 or low == 0))
            panel.tick_params(axis="x", labelsize="small")
            panel.locator_params(axis="x", nbins=4)
            if i + n_columns >= n_panels:
                panel.set_xlabel("coefficient", fontsize="small")
        self.colorbar_ = None
        return axes


def _names_of(model: Any, before: list[Any]) -> Any:
    """Return the names that a pipeline gives its last step, or that X had."""
    if before:
        names = None
        for steps in before:
            # Steps that have no names to give end the chain.
            try:
                names = steps.get_feature_names_out(names)
            except AttributeError:
                return getattr(model, "feature_names_in_", None)
        return names
    return getattr(model, "feature_names_in_", None)


def _checked_names(names: Any, n_features: int) -> list[str]:
    if names is None:
        return [f"x{i}" for i in range(n_features)]
    if isinstance(names, str) or np.ndim(names) != 1 or len(names) != n_features:
        got = repr(names) if np.ndim(names) == 0 else f"shape {np.shape(names)}"
        raise ValueError(
            f"feature_names must be {n_features} names, one a feature, got {got}. Pass "
            "those of the columns that coef_ has."
        )
    return [str(name) for name in names]


def _checked_top(top: Any) -> int:
    if not is_whole(top) or top < 1:
        raise ValueError(
            f"top must be an integer of 1 or more, got {top!r}. It is how many bars a "
            "class has."
        )
    return int(top)


def _checked_shape(shape: Any, n_features: int) -> tuple[int, int]:
    sides = tuple(shape) if isinstance(shape, list | tuple | np.ndarray) else ()
    whole = all(is_whole(side) and side > 0 for side in sides)
    if len(sides) != 2 or not whole or math.prod(sides) != n_features:
        raise ValueError(
            f"image_shape must be (height, width) with height * width = {n_features}, "
            f"the number of features, got {shape!r}. Leave it out for bars."
        )
    return int(sides[0]), int(sides[1])


def _short(name: str) -> str:
    """Return a name that fits beside its bar, in one line."""
    name = " ".join(name.split())
    return name if len(name) <= MAX_LETTERS else name[: MAX_LETTERS - 1] + "…"
