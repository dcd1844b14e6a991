"""The LightningModules: slimmable ones, which are trained together, and the plain ones of reward files."""

from aequa_lightning.modules.adapted import AdaptedModule, slimmable
from aequa_lightning.modules.classifier import RewardClassifier, SlimmableClassifier
from aequa_lightning.modules.language_model import RewardLanguageModel, SlimmableLanguageModel
from aequa_lightning.modules.multi_label import RewardMultiLabelClassifier, SlimmableMultiLabelClassifier
from aequa_lightning.modules.regression import RewardRegressor, SlimmableRegressor
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.segmentation import RewardSegmenter, SlimmableSegmenter
from aequa_lightning.modules.slimmable_module import SlimmableModule

__all__ = [
    "AdaptedModule",
    "RewardClassifier",
    "RewardLanguageModel",
    "RewardModule",
    "RewardMultiLabelClassifier",
    "RewardRegressor",
    "RewardSegmenter",
    "SlimmableClassifier",
    "SlimmableLanguageModel",
    "SlimmableModule",
    "SlimmableMultiLabelClassifier",
    "SlimmableRegressor",
    "SlimmableSegmenter",
    "slimmable",
]
