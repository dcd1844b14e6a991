"""The LightningModules: the shared classifier, and the plain one of a reward file."""

from aequa_lightning.modules.classifier import SlimmableClassifier

__all__ = ["SlimmableClassifier"]
