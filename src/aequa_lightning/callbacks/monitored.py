"""What a callback may go by: a figure of a round, and which of two values is better."""

from typing import Literal, get_args

from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.errors import InputError

Monitor = Literal["validation_accuracy", "train_loss"]


def check_monitor(monitor: str, callback: str) -> None:
    """Check the name of a figure.

    Raises:
        InputError: There is none of that name.
    """
    if monitor not in get_args(Monitor):
        raise InputError(f"{callback}.monitor={monitor!r} is unknown; choose {' or '.join(get_args(Monitor))}.")


def improvement(result: RoundResult, monitor: Monitor, best: float | None) -> tuple[float | None, float]:
    """Return a round's figure, and by how much it is better than the best one so far.

    Args:
        result: The round.
        monitor: ``validation_accuracy``: of the shared model at full width; ``train_loss``: mean of the participants.
        best: The best figure so far; None: there is none.

    Returns:
        The figure, None if nobody's update was averaged; and the difference, infinite without an earlier figure.
    """
    figure = result.accuracy_by_width[1.0] if monitor == "validation_accuracy" else result.record["train_loss"]
    if figure is None:
        return None, 0.0
    if best is None:
        return figure, float("inf")
    return figure, figure - best if monitor == "validation_accuracy" else best - figure
