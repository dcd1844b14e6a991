from aequa_lightning.callbacks.progress import Progress
from aequa_lightning.callbacks.rewards import Rewards

__all__ = ["Progress", "Rewards"]
