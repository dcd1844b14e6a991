"""One network, many widths: run, train and hand out any width of an ordinary PyTorch network."""

from aequa_lightning.slimmable.budget import Cost, cost, width_for
from aequa_lightning.slimmable.model import SlimmableModel
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.sandwich import Distillation, sandwich_step, sandwich_widths
from aequa_lightning.slimmable.widths import channels

__all__ = [
    "Cost",
    "Distillation",
    "SlicePlan",
    "SlimmableModel",
    "channels",
    "cost",
    "sandwich_step",
    "sandwich_widths",
    "width_for",
]
