from aequa_lightning.mechanisms.aequa import Aequa
from aequa_lightning.mechanisms.aequa_training import AequaTraining
from aequa_lightning.mechanisms.cffl import CFFL
from aequa_lightning.mechanisms.cgsv import CGSV
from aequa_lightning.mechanisms.composed import Composed, Slimming
from aequa_lightning.mechanisms.fedave import FedAVE
from aequa_lightning.mechanisms.fedrac import FedRAC
from aequa_lightning.mechanisms.fedsac import FedSAC
from aequa_lightning.mechanisms.fine_tuning import FineTuning
from aequa_lightning.mechanisms.iafl import IAFL
from aequa_lightning.mechanisms.lg_fedavg import LGFedAvg
from aequa_lightning.mechanisms.mechanism import Mechanism, PaidByWidth, PaidInRounds
from aequa_lightning.mechanisms.rank import Rank
from aequa_lightning.mechanisms.rffl import RFFL
from aequa_lightning.mechanisms.shapfed import ShapFed
from aequa_lightning.mechanisms.shared_model import SharedModel
from aequa_lightning.mechanisms.standalone import Standalone

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
