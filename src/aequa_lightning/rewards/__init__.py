"""Which width for whom: curves, exact allocation and its proof."""

from aequa_lightning.rewards.allocation.allocate import Allocation, allocate_widths
from aequa_lightning.rewards.allocation.certificate import check_certificate
from aequa_lightning.rewards.allocation.curve import Curve, offered_widths, refine
from aequa_lightning.rewards.allocation.frontier import Frontier, pareto_front
from aequa_lightning.rewards.allocation.solve import OBJECTIVES
from aequa_lightning.rewards.allocation.uncertainty import Resampled, bootstrap

__all__ = [
    "OBJECTIVES",
    "Allocation",
    "Curve",
    "Frontier",
    "Resampled",
    "allocate_widths",
    "bootstrap",
    "check_certificate",
    "offered_widths",
    "pareto_front",
    "refine",
]
