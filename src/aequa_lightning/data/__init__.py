from aequa_lightning.data.digits import DigitsData
from aequa_lightning.data.femnist import FEMNISTData
from aequa_lightning.data.groups import FromFile, Natural
from aequa_lightning.data.images import ImageFolderData, TinyImageNetData
from aequa_lightning.data.loaded import Split
from aequa_lightning.data.medmnist import MedMNISTData
from aequa_lightning.data.mnist import FashionMNISTData, MNISTData
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.npz import NpzData
from aequa_lightning.data.partition import Dirichlet, Homogeneous, LabelSkew, Partition, QuantityImbalance
from aequa_lightning.data.sst import SST2Data, SST5Data
from aequa_lightning.data.tables import TableData
from aequa_lightning.data.torchvision_sets import CIFAR10Data, CIFAR100Data, SVHNData

__all__ = [
    "CIFAR10Data",
    "CIFAR100Data",
    "CollaborativeData",
    "DigitsData",
    "Dirichlet",
    "FEMNISTData",
    "FashionMNISTData",
    "FromFile",
    "Homogeneous",
    "ImageFolderData",
    "LabelSkew",
    "MNISTData",
    "MedMNISTData",
    "Natural",
    "NpzData",
    "Partition",
    "QuantityImbalance",
    "SST2Data",
    "SST5Data",
    "SVHNData",
    "Split",
    "TableData",
    "TinyImageNetData",
]
