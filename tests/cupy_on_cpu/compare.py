"""Compare the stand-in's names and signatures with those of CuPy itself.

    python tests/cupy_on_cpu/compare.py

where CuPy is installed; a GPU is not needed. What the stand-in has and CuPy has not, or
has with other parameters, is listed: it should be nothing.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLACES = (
    "cupy", "cupy:ndarray", "cupy:RawKernel", "cupy.linalg", "cupy.random:Generator",
    "cupy.cuda", "cupy.cuda:Stream", "cupy.cuda:Event", "cupy.cuda:Device",
    "cupy.cuda:MemoryPool", "cupy.cuda.runtime", "cupy._core._routines_linalg",
    "cupyx", "cupyx.scipy.sparse", "cupyx.scipy.sparse:csr_matrix",
    "cupyx.scipy.sparse:csc_matrix",
)  # fmt: skip


def parameters(thing: Any) -> list[str] | None:
    """Return the names of the parameters of a function, None where nobody knows."""
    if inspect.isclass(thing):
        return None
    try:
        names = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        # Compiled ones have them in the first line of their documentation, with types.
        head = (getattr(thing, "__doc__", None) or "").partition("\n")[0]
        found = re.match(r"[\w.]+\((.*)\)", head)
        if found is None:
            return None
        parts = found[1].split(",")
        heads = [part.partition("=")[0].strip(" *\\") for part in parts]
        names = [head.split()[-1] for head in heads if head]
    return [n for n in names if n not in ("self", "/", "", "args", "kwargs")]


def described(kept: Callable[[Any, str], bool]) -> dict[str, Any]:
    """Return the parameters of every name of the packages that are imported here."""
    found = {}
    for place in PLACES:
        module, _, attribute = place.partition(":")
        thing = importlib.import_module(module)
        thing = getattr(thing, attribute) if attribute else thing
        names = [n for n in dir(thing) if kept(thing, n)]
        found[place] = {n: parameters(getattr(thing, n, None)) for n in names}
    return found


def is_offered(thing: Any, name: str) -> bool:
    """Return whether a name is meant for those who import it."""
    value = getattr(thing, name, None)
    if name.startswith("_"):
        return False
    if inspect.isclass(thing) or getattr(value, "__module__", None) is None:
        return not inspect.ismodule(value)
    # What is imported into a module for its own use is not of CuPy, or is private.
    return value.__module__.startswith("cupy") and "._array" not in value.__module__


def main() -> None:
    if "--describe" in sys.argv:
        print(json.dumps(described(is_offered)))
        return
    # Python puts the folder of a script first.
    sys.path.remove(str(HERE))
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, __file__, "--describe"]
    out = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    real, n_wrong = described(hasattr), 0
    for place, names in json.loads(out.stdout).items():
        for name, own in names.items():
            theirs = real[place].get(name, ["nothing of that name"])
            known = name in real[place]
            if not known or (own and theirs and [n for n in theirs if n in own] != own):
                n_wrong += 1
                print(f"{place} {name}: {own}, CuPy has {theirs}")
    sys.exit(bool(n_wrong))


if __name__ == "__main__":
    main()
