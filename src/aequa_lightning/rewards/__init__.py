"""Which width for whom: curves, exact allocation and its proof."""

from aequa_lightning.rewards.allocation import Allocation, allocate_widths
from aequa_lightning.rewards.certificate import check_certificate
from aequa_lightning.rewards.curve import Curve, offered_widths, refine

__all__ = ["Allocation", "Curve", "allocate_widths", "check_certificate", "offered_widths", "refine"]
