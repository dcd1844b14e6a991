"""The LightningModules: the shared classifier, and the plain one of a reward file."""

from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.modules.reward import RewardClassifier

__all__ = ["RewardClassifier", "SlimmableClassifier"]
