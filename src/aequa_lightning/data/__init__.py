from aequa_lightning.data.digits import DigitsData
from aequa_lightning.data.mnist import FashionMNISTData, MNISTData
from aequa_lightning.data.module import CollaborativeData, Split
from aequa_lightning.data.npz import NpzData
from aequa_lightning.data.partition import Dirichlet, Homogeneous, LabelSkew, Partition, QuantityImbalance

__all__ = [
    "CollaborativeData",
    "DigitsData",
    "Dirichlet",
    "FashionMNISTData",
    "Homogeneous",
    "LabelSkew",
    "MNISTData",
    "NpzData",
    "Partition",
    "QuantityImbalance",
    "Split",
]
