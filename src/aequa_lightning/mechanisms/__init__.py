"""Mechanisms: how participants are paid."""

from aequa_lightning.mechanisms.aequa import Aequa
from aequa_lightning.mechanisms.aequa_training import AequaTraining
from aequa_lightning.mechanisms.composed import Composed, Slimming
from aequa_lightning.mechanisms.mechanism import Mechanism, PaidByWidth, PaidInRounds
from aequa_lightning.mechanisms.rivals import (
    CFFL,
    CGSV,
    IAFL,
    RFFL,
    FedAVE,
    FedRAC,
    FedSAC,
    FineTuning,
    LGFedAvg,
    Rank,
    ShapFed,
    SharedModel,
    Standalone,
)

__all__ = [
    "CFFL",
    "CGSV",
    "IAFL",
    "RFFL",
    "Aequa",
    "AequaTraining",
    "Composed",
    "FedAVE",
    "FedRAC",
    "FedSAC",
    "FineTuning",
    "LGFedAvg",
    "Mechanism",
    "PaidByWidth",
    "PaidInRounds",
    "Rank",
    "ShapFed",
    "SharedModel",
    "Slimming",
    "Standalone",
]
