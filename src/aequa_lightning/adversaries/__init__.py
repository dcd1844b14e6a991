"""Participants that cheat, for experiments: ``trainer.adversaries`` takes any number of them."""

from aequa_lightning.adversaries.adversary import Adversary, View, check_adversaries
from aequa_lightning.adversaries.data import Clone, FlippedLabels, SharedData
from aequa_lightning.adversaries.updates import Drift, Noise, NotFinite, Nothing, Replay, Scale, SignFlip

__all__ = [
    "Adversary",
    "Clone",
    "Drift",
    "FlippedLabels",
    "Noise",
    "NotFinite",
    "Nothing",
    "Replay",
    "Scale",
    "SharedData",
    "SignFlip",
    "View",
    "check_adversaries",
]
