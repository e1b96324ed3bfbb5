"""The one private module that is used from outside."""

from cupy._core import _routines_linalg
