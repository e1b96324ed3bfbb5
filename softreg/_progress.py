"""What `verbose=1` shows: a live bar on a terminal, else a line an iteration."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from joblib.parallel import get_active_backend

from softreg._arrays import Array
from softreg.solvers._loop import Record, Watcher

# Seconds before a bar appears, and between two drawings of it.
PATIENCE = 1.0
EVERY = 0.1
WIDTH = 12
CLEAR = "\r\x1b[K"
# Of a bar: what is done, and what is left; and where the terminal has no blocks.
BLOCKS, PLAIN = "█░", "#."


@contextmanager
def progress(estimator: Any) -> Iterator[list[Watcher]]:
    """Give the watchers that show a fit's progress, as `verbose` asks."""
    if not is_shown(estimator):
        yield []
        return
    # What stands in for a stream, or no stream at all, may not have it.
    is_terminal = getattr(sys.stdout, "isatty", bool)()
    if not is_terminal:
        yield [print_progress]
        return
    bar = Bar(estimator.tol, sys.stdout)
    try:
        yield [bar]
    finally:
        bar.close()


def is_shown(estimator: Any) -> bool:
    """Return whether to show progress: asked for, and not in a worker of joblib.

    There many fits at a time would write over each other.
    """
    return bool(estimator.verbose) and not get_active_backend()[0].nesting_level


def print_progress(row: Record, coef: Array) -> None:
    """Print one line of a fit."""
    print(
        f"iteration {row.iteration:4d}  objective {row.objective:.8g}  "
        f"proven gap {row.optimality_gap:.2e}  passes {row.passes:.0f}  "
        f"{row.seconds:.2f} s",
        flush=True,
    )


class Bar:
    """One line of a terminal, drawn again as iterations come; its end stays there.

    Parameters
    ----------
    tol : float
        Of the fit: where the bar is full.
    stream : file
        Of the terminal.
    """

    def __init__(self, tol: float, stream: TextIO) -> None:
        self._tol, self._stream = tol, stream
        self._marks = marks_for(stream)
        self._rows: list[Record] = []
        self._drawn = -math.inf

    def __call__(self, row: Record, coef: Array) -> None:
        """Take note of an iteration, and draw the bar where it is time to."""
        last = self._rows[-1] if self._rows else row
        if row.seconds < last.seconds or row.iteration < last.iteration:
            self.close()  # another fit has begun
        self._rows.append(row)
        now = time.monotonic()
        if row.seconds >= PATIENCE and now - self._drawn >= EVERY:
            self._draw()
            self._drawn = now

    def close(self) -> None:
        """Leave the last line, and begin anew."""
        if self._rows:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
            self._rows = []

    def _draw(self) -> None:
        room = shutil.get_terminal_size().columns - 1
        line = line_of(self._rows, self._tol, room, self._marks)
        self._stream.write(CLEAR + line[:room])
        self._stream.flush()


def marks_for(stream: TextIO) -> str:
    """Return the marks of a bar that a stream can write."""
    try:
        BLOCKS.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS


def line_of(
    rows: list[Record], tol: float, room: float = math.inf, marks: str = BLOCKS
) -> str:
    """Return the bar of a fit's iterations so far, in `room` columns if it may be.

    How long it takes is the last to go, being what the line is looked at for.
    """
    row, start = rows[-1], rows[len(rows) // 2 - 1]
    left, ahead = [way_left(rows, each, tol) for each in (row, start)]
    whole = way_left(rows, rows[0], tol)
    done = max(0.0, 1.0 - left / whole) if left > 0 and whole > 0 else 1.0
    proven = math.isfinite(row.optimality_gap)
    parts = {
        "bar": (marks[0] * round(WIDTH * done)).ljust(WIDTH, marks[1]),
        "iteration": f"iteration {row.iteration}",
        "objective": f"objective {row.objective:.6g}",
        "gap": f"proven gap {row.optimality_gap:.1e}"
        if proven
        else f"gradient {row.gradient_norm:.1e}",
    }
    seconds = row.seconds - start.seconds
    if seconds > 0:
        parts["speed"] = f"{(row.passes - start.passes) / seconds:.3g} passes/s"
    if left > 0 and ahead > left and seconds > 0:
        parts["time"] = f"{duration(left / (ahead - left) * seconds)} left"
    else:
        parts["time"] = duration(row.seconds)
    for least in ("speed", "objective", "iteration", "gap"):
        if len("  ".join(parts.values())) > room:
            parts.pop(least, None)
    return "  ".join(parts.values())


def way_left(rows: list[Record], row: Record, tol: float) -> float:
    """Return how many powers of e are left to tol: solvers converge so, about.

    Where nothing is proven, of the gradient, from where the fit started.
    """
    if math.isfinite(row.optimality_gap):
        measure, whole = row.optimality_gap, abs(row.objective)
    else:
        measure, whole = row.gradient_norm, rows[0].gradient_norm
    # Below rounding nothing can be had.
    goal = max(tol, sys.float_info.epsilon) * whole
    return math.log(measure / goal) if measure > goal > 0 else 0.0


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
