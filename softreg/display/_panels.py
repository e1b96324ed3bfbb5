"""Where panels are drawn, and which estimator of a pipeline or search is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

SIDES = ("wspace", "hspace")


def panels(
    ax: Any,
    n_panels: int,
    *,
    n_columns: int = 1,
    size: tuple[float, float],
    share_x: bool = False,
    apart: tuple[float, float] = (0.3, 0.4),
    layout: str = "constrained",
) -> np.ndarray:
    """Return the axes (n_panels,) to draw in.

    Parameters
    ----------
    ax : None, axes, or array-like of axes
        None makes a figure; a single axes gives its place to all panels; of several
        each is a panel.
    n_panels, n_columns : int
        How many panels, and how many of them side by side.
    size : (width, height)
        Of a panel in inches, in a figure of its own.
    share_x : bool
        Whether panels one above the other have one x-axis.
    apart : (across, down)
        Room between panels that share a place in a figure without a layout engine, in
        units of a panel.
    layout : str
        The layout engine of a figure of its own.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "softreg.display draws with matplotlib, which is not installed. Run pip "
            'install "softreg[plot]".'
        ) from error

    n_rows = -(-n_panels // n_columns)
    if ax is None:
        figure, grid = plt.subplots(
            n_rows, n_columns, squeeze=False, sharex="col" if share_x else False,
            figsize=(size[0] * n_columns, size[1] * n_rows), layout=layout,
        )  # fmt: skip
        axes = grid.ravel()
        for unused in axes[n_panels:]:
            figure.delaxes(unused)
        return axes[:n_panels]
    given = np.ravel(np.asarray(ax, dtype=object))
    if len(given) == n_panels:
        return given
    if len(given) != 1:
        raise ValueError(
            f"ax must be {n_panels} axes, one a panel, or one for all, got "
            f"{len(given)}. Pass those of plt.subplots, or none for a figure."
        )
    place = given[0].get_subplotspec()
    if place is None:
        raise ValueError(
            f"ax must be {n_panels} axes, one a panel, or one of plt.subplots, got one "
            "that is not in a grid and so cannot be shared. Pass axes of plt.subplots."
        )
    figure = given[0].figure
    room = {} if figure.get_layout_engine() else dict(zip(SIDES, apart, strict=True))
    within = place.subgridspec(n_rows, n_columns, **room)
    given[0].set_axis_off()
    made: list[Any] = []
    for i in range(n_panels):
        above = made[i - n_columns] if share_x and i >= n_columns else None
        made.append(figure.add_subplot(within[divmod(i, n_columns)], sharex=above))
        if above is not None:
            above.tick_params(labelbottom=False)
    return np.array(made, dtype=object)


def shown_of(estimator: Any) -> tuple[Any, list[Any]]:
    """Return what is shown of an estimator, if fitted, and the steps before it."""
    estimator, before = inner_of(estimator)
    check_is_fitted(estimator)
    return estimator, before


def inner_of(estimator: Any) -> tuple[Any, list[Any]]:
    """Return what is shown of an estimator, and the steps that X takes before it.

    Of a search by scikit-learn that is its best estimator, of a pipeline the last step.
    """
    before: list[Any] = []
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline) and len(estimator.steps):
            if len(estimator.steps) > 1:
                before.append(estimator[:-1])
            estimator = estimator.steps[-1][1]
        else:
            return estimator, before
