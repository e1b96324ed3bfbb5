"""Solvers of `SoftmaxRegression`: frozen dataclasses of their options.

Pass a name (`solver="lbfgs"`) or an object (`solver=softreg.solvers.LBFGS(memory=30)`).
A solver is a pure function of an objective: it never prints, warns or sees data. One of
your own is a subclass of `Solver`, which asks an `Objective` for a `Point`, or for a
`Line` of them: docs/extending.md writes one.
"""

from softreg.solvers._gradient_descent import GradientDescent
from softreg.solvers._lbfgs import LBFGS
from softreg.solvers._loop import Solver
from softreg.solvers._minibatch import MiniBatch
from softreg.solvers._newton_cg import NewtonCG
from softreg.solvers._newton_cholesky import NewtonCholesky
from softreg.solvers._protocols import Line, Objective, Point

SOLVERS: dict[str, type[Solver]] = {
    "gd": GradientDescent,
    "lbfgs": LBFGS,
    "minibatch": MiniBatch,
    "newton-cg": NewtonCG,
    "newton-cholesky": NewtonCholesky,
}

__all__ = [
    "LBFGS",
    "GradientDescent",
    "Line",
    "MiniBatch",
    "NewtonCG",
    "NewtonCholesky",
    "Objective",
    "Point",
    "Solver",
]
