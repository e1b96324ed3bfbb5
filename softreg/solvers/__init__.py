"""Solvers of `SoftmaxRegression`: frozen dataclasses of their options.

Pass a name (`solver="lbfgs"`) or an object (`solver=softreg.solvers.LBFGS(memory=30)`).
A solver is a pure function of an objective: it never prints, warns or sees data.
"""

from softreg.solvers._lbfgs import LBFGS
from softreg.solvers._newton_cg import NewtonCG
from softreg.solvers._newton_cholesky import NewtonCholesky

SOLVERS = {solver.name: solver for solver in (LBFGS, NewtonCG, NewtonCholesky)}

__all__ = ["LBFGS", "NewtonCG", "NewtonCholesky"]
