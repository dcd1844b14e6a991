from aequa_lightning.mechanisms.mechanism import Aequa, FedAvgModel, Mechanism

__all__ = ["Aequa", "FedAvgModel", "Mechanism"]
