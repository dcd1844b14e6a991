"""Which width for whom: curves, exact allocation and its proof."""

from aequa_lightning.rewards.allocation import Allocation, allocate_widths
from aequa_lightning.rewards.certificate import check_certificate
from aequa_lightning.rewards.curve import Curve, offered_widths, refine
from aequa_lightning.rewards.frontier import Frontier, continuous_bound, pareto_front
from aequa_lightning.rewards.solve import OBJECTIVES
from aequa_lightning.rewards.uncertainty import Resampled, bootstrap

__all__ = [
    "OBJECTIVES",
    "Allocation",
    "Curve",
    "Frontier",
    "Resampled",
    "allocate_widths",
    "bootstrap",
    "check_certificate",
    "continuous_bound",
    "offered_widths",
    "pareto_front",
    "refine",
]
