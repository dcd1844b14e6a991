"""Fair model rewards in collaborative learning, on PyTorch Lightning and Fabric."""

from typing import TYPE_CHECKING, Any

from aequa_lightning.runtime.start_up import import_matplotlib
from aequa_lightning.version import __version__

__all__ = ["CollaborativeTrainer", "SlimmableClassifier", "__version__"]

if TYPE_CHECKING:
    from aequa_lightning.modules.classifier import SlimmableClassifier
    from aequa_lightning.trainer.trainer import CollaborativeTrainer


# Before torchmetrics does so.
import_matplotlib()


def __getattr__(name: str) -> Any:
    # Importing torch and lightning takes seconds; `aequa --help` must not wait for them.
    if name == "CollaborativeTrainer":
        from aequa_lightning.trainer.trainer import CollaborativeTrainer

        return CollaborativeTrainer
    if name == "SlimmableClassifier":
        from aequa_lightning.modules.classifier import SlimmableClassifier

        return SlimmableClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
