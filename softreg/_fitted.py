"""What fits leave on an estimator: set all at once, read on the host, left out."""

from __future__ import annotations

import copy
from typing import Any

from softreg._arrays import on_host

# What some estimator's way of fitting sets. All else is the user's, or a subclass's.
FITTED = frozenset(
    {
        *("classes_", "coef_", "intercept_", "n_features_in_", "feature_names_in_"),
        *("converged_", "objective_", "optimality_gap_", "n_iter_", "history_"),
        *("weight_decay_", "solver_", "_online", "_seen"),
        *("C_", "Cs_", "scores_", "coefs_paths_", "objectives_", "optimality_gaps_"),
        *("estimator_", "row_weights_", "objective_history_"),
        *("node_estimators_", "_joins", "_tree", "_home"),
    }
)


def without_fit(estimator: Any) -> dict[str, Any]:
    """Return the attributes of an estimator but those that fits leave."""
    return {n: v for n, v in vars(estimator).items() if n not in FITTED}


def become(estimator: Any, fitted: dict[str, Any]) -> None:
    """Set all fitted attributes in one assignment; none of an earlier fit stays."""
    estimator.__dict__ = without_fit(estimator) | fitted


def fitted_here(estimator: Any) -> Any:
    """Return the estimator with what lies elsewhere on the host, for scorers."""
    here = copy.copy(estimator)
    here.__dict__.update({n: on_host(v) for n, v in vars(estimator).items()})
    return here
