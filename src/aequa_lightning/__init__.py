"""Fair model rewards in collaborative learning, on PyTorch Lightning and Fabric."""

from typing import TYPE_CHECKING, Any

from aequa_lightning.environment import import_matplotlib

__version__ = "0.1.0"
__all__ = ["CollaborativeTrainer", "SlimmableClassifier", "__version__"]

if TYPE_CHECKING:
    from aequa_lightning.trainer import CollaborativeTrainer
    from aequa_lightning.training import SlimmableClassifier


# Before torchmetrics does so.
import_matplotlib()


def __getattr__(name: str) -> Any:
    # Importing torch and lightning takes seconds; `aequa --help` must not wait for them.
    if name == "CollaborativeTrainer":
        from aequa_lightning.trainer import CollaborativeTrainer

        return CollaborativeTrainer
    if name == "SlimmableClassifier":
        from aequa_lightning.training import SlimmableClassifier

        return SlimmableClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
