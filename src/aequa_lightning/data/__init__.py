from aequa_lightning.data.characters import CharactersData
from aequa_lightning.data.datasets import DatasetData
from aequa_lightning.data.digit_pairs import DigitPairsData
from aequa_lightning.data.digits import DigitsData
from aequa_lightning.data.embedded_tables import BreastCancerData, DiabetesData
from aequa_lightning.data.femnist import FEMNISTData
from aequa_lightning.data.groups import FromFile, Natural
from aequa_lightning.data.images import ImageFolderData, TinyImageNetData
from aequa_lightning.data.loaded import Split
from aequa_lightning.data.medmnist import MedMNISTData
from aequa_lightning.data.mnist import FashionMNISTData, MNISTData
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.npz import NpzData
from aequa_lightning.data.partition import Dirichlet, Homogeneous, LabelSkew, Partition, QuantityImbalance
from aequa_lightning.data.shapes import ShapesData
from aequa_lightning.data.sst import SST2Data, SST5Data
from aequa_lightning.data.tables import TableData
from aequa_lightning.data.torchvision_sets import CIFAR10Data, CIFAR100Data, SVHNData

__all__ = [
    "BreastCancerData",
    "CIFAR10Data",
    "CIFAR100Data",
    "CharactersData",
    "CollaborativeData",
    "DatasetData",
    "DiabetesData",
    "DigitPairsData",
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
    "ShapesData",
    "Split",
    "TableData",
    "TinyImageNetData",
]
