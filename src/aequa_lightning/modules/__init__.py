"""The LightningModules: slimmable ones, which are trained together, and the plain ones of reward files."""

from aequa_lightning.modules.classifier import RewardClassifier, SlimmableClassifier
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.slimmable_module import SlimmableModule

__all__ = ["RewardClassifier", "RewardModule", "SlimmableClassifier", "SlimmableModule"]
