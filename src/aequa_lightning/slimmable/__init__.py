"""One network, many widths: run, train and hand out any width of an ordinary PyTorch network."""

from aequa_lightning.slimmable.budget import Cost, cost, width_for
from aequa_lightning.slimmable.convert import group_norm_from_batch_norm, without_running_statistics
from aequa_lightning.slimmable.export import save_onnx, save_safetensors
from aequa_lightning.slimmable.importance import order_by_importance
from aequa_lightning.slimmable.model import SlimmableModel
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.sandwich import Distillation, SandwichRule, sandwich_step
from aequa_lightning.slimmable.widths import Width, channels

__all__ = [
    "Cost",
    "Distillation",
    "SandwichRule",
    "SlicePlan",
    "SlimmableModel",
    "Width",
    "channels",
    "cost",
    "group_norm_from_batch_norm",
    "order_by_importance",
    "sandwich_step",
    "save_onnx",
    "save_safetensors",
    "width_for",
    "without_running_statistics",
]
