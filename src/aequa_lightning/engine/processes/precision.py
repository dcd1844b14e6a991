"""Warns where bfloat16 is slower than float32 on this processor."""

import time
import warnings

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch.nn import functional

# Ratio of the times in bfloat16 and float32 above which the user is warned.
TOLERATED = 1.25
REPEATS = 5


def cost_of_bfloat16() -> float:
    """Return the time of a convolution's forward and backward in bfloat16 over that in float32, on the CPU."""
    # Constant inputs: random ones would advance the global generator.
    inputs, weight = torch.ones(32, 16, 14, 14), torch.ones(32, 16, 3, 3)
    inputs, weight = (value.to(memory_format=torch.channels_last).requires_grad_() for value in (inputs, weight))
    fastest = {}
    for half in (False, True):
        seconds = []
        for _ in range(REPEATS + 1):  # the first one is a warm-up
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = functional.conv2d(inputs, weight, padding=1)
            outputs.float().sum().backward()
            seconds.append(time.perf_counter() - began)
        fastest[half] = min(seconds)
    return fastest[True] / fastest[False]


def warn_of_slow_precision(fabric: Fabric) -> None:
    """Warn where a run computes in bfloat16 on a processor that is slower at it than at float32.

    Args:
        fabric: A launched Fabric.
    """
    if fabric.device.type != "cpu" or not isinstance(fabric.strategy.precision, MixedPrecision):
        return
    cost = cost_of_bfloat16()
    if cost > TOLERATED:
        warnings.warn(
            f"trainer.precision=bf16-mixed: on this processor a convolution takes {cost:.1f} times as long in bfloat16 "
            "as in float32; 32-true is likely faster.",
            stacklevel=2,
        )
