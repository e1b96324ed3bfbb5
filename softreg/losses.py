"""Losses of your own: what `loss=` takes beside its names.

The losses that softreg has go by name: "softmax", "entmax15", "sparsemax", a number
for the order of Tsallis' entropy, "topk-<k>". Another is a subclass of `Loss`; every
solver fits it, and proves the optimum. docs/extending.md writes one.

To evaluate losses without fitting there is `softreg.functional`.
"""

from softreg._losses import Loss

__all__ = ["Loss"]
