from aequa_lightning.callbacks.early_stopping import EarlyStopping
from aequa_lightning.callbacks.learning_rate import LearningRateMonitor
from aequa_lightning.callbacks.model_checkpoint import ModelCheckpoint
from aequa_lightning.callbacks.progress import Progress
from aequa_lightning.callbacks.rewards import Rewards

__all__ = ["EarlyStopping", "LearningRateMonitor", "ModelCheckpoint", "Progress", "Rewards"]
