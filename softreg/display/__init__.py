"""Pictures of fitted estimators, in scikit-learn's display convention.

`XDisplay.from_estimator(...)` draws and returns an object with `ax_`, `figure_` and
`plot()`. matplotlib is imported only when something is drawn.

`ax` is None for a figure of its own; an axes, whose place the panels then share; or as
many axes as there are panels. In a place that several panels share they may be crowded:
`plt.subplots(layout="constrained")` makes them fit.
"""

from softreg.display._coefficients import CoefficientDisplay
from softreg.display._convergence import ConvergenceDisplay
from softreg.display._path import RegularizationPathDisplay

__all__ = ["CoefficientDisplay", "ConvergenceDisplay", "RegularizationPathDisplay"]
