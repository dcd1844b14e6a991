from aequa_lightning.mechanisms.aequa import Aequa
from aequa_lightning.mechanisms.aequa_training import AequaTraining
from aequa_lightning.mechanisms.mechanism import Mechanism
from aequa_lightning.mechanisms.shared_model import SharedModel

__all__ = ["Aequa", "AequaTraining", "Mechanism", "SharedModel"]
