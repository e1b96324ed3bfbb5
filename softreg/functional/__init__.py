"""Softmax, its sparse relatives, their Jacobians and losses, as plain functions.

All take NumPy, CuPy, torch or any other array-API array, lists included, keep the
floating dtype, and never overflow. Losses take integer codes (n,) or rows on the
simplex (n, K) as targets, and return the mean over the rows, weighted where
`sample_weight` is given, or with ``reduction="none"`` one unweighted value a row.

Nothing here is needed to fit a model: `SoftmaxRegression` is the estimator.
"""

from softreg.functional._distributions import (
    entmax,
    entmax15,
    hardmax,
    log_softmax,
    logsumexp,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    sparsemax,
    topk_softmax,
)
from softreg.functional._losses import (
    bi_tempered_loss,
    binary_cross_entropy,
    cross_entropy,
    fenchel_young_loss,
    focal_loss,
    gce_loss,
    sce_loss,
    smooth_labels,
)

__all__ = [
    "bi_tempered_loss",
    "binary_cross_entropy",
    "cross_entropy",
    "entmax",
    "entmax15",
    "fenchel_young_loss",
    "focal_loss",
    "gce_loss",
    "hardmax",
    "log_softmax",
    "logsumexp",
    "sce_loss",
    "smooth_labels",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "sparsemax",
    "topk_softmax",
]
