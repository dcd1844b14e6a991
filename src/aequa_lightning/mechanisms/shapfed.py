"""ShapFed: each moves towards a weighted average as far as the classes that it teaches deserve."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Mixing, Payment
from aequa_lightning.mechanisms.targets import Relative, Target


@dataclass(frozen=True)
class ShapFed(PaidInRounds):
    """ShapFed-WA (Tastan et al., "Redefining Contributions: Shapley-Driven Federated Learning", IJCAI 2024).

    The contribution gamma is the class-wise cosine of last-layer updates (the measure ``class_cosine``); the server
    averages the trained models by ``gamma / sum gamma``, and participant i keeps ``(1 - g_i)`` of its own, with ``g``
    the ratio to the top contributor.
    """

    contribution: Measure = "class_cosine"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and mixtures of own and average."""
        return Relative(), Mixing()
