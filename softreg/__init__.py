"""Softmax regression that proves its optimum, for scikit-learn."""

from softreg import callbacks, display, functional, inference, losses, solvers
from softreg._cross_validation import SoftmaxRegressionCV
from softreg._hierarchical import HierarchicalSoftmax
from softreg._large_margin import LargeMarginSoftmaxRegression
from softreg._path import softmax_path
from softreg._robust import RobustSoftmaxRegression
from softreg._softmax import SoftmaxRegression

__version__ = "0.1.0"

__all__ = [
    "HierarchicalSoftmax",
    "LargeMarginSoftmaxRegression",
    "RobustSoftmaxRegression",
    "SoftmaxRegression",
    "SoftmaxRegressionCV",
    "__version__",
    "callbacks",
    "display",
    "functional",
    "inference",
    "losses",
    "softmax_path",
    "solvers",
]
