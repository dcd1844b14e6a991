"""The round after which the full width was best, kept for the rewards."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class BestRound:
    """Remembers the server's parameters of the best round so far.

    Attributes:
        number: The round, from 1; 0 before the first.
        accuracy: Validation accuracy of its full width, in [0, 1].
        parameters: The server's parameters after it, float32 of shape (P,).
    """

    number: int = 0
    accuracy: float = -1.0
    parameters: Tensor | None = None

    def note(self, number: int, accuracy: float, parameters: Tensor) -> None:
        """Take a round into account; of equally good ones the later counts.

        Example:
            >>> import torch
            >>> best = BestRound()
            >>> for number, accuracy in enumerate([0.5, 0.75, 0.75, 0.25], start=1):
            ...     best.note(number, accuracy, torch.full((1,), float(number)))
            >>> best.number, best.parameters
            (3, tensor([3.]))
        """
        if accuracy >= self.accuracy:
            self.number, self.accuracy, self.parameters = number, accuracy, parameters.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.number, self.accuracy, self.parameters = state["number"], state["accuracy"], state["parameters"]
