"""The round after which the full width was best."""

from dataclasses import dataclass


@dataclass
class BestRound:
    """The best round so far.

    Attributes:
        number: The round, from 1; 0 before the first.
        accuracy: Validation accuracy of its full width, in [0, 1].
    """

    number: int = 0
    accuracy: float = -1.0

    def note(self, number: int, accuracy: float) -> bool:
        """Take a round into account, and tell whether it is the best now; of equally good ones the later is.

        Example:
            >>> best = BestRound()
            >>> [best.note(number, accuracy) for number, accuracy in enumerate([0.5, 0.75, 0.75, 0.25], start=1)]
            [True, True, True, False]
            >>> best
            BestRound(number=3, accuracy=0.75)
        """
        if accuracy < self.accuracy:
            return False
        self.number, self.accuracy = number, accuracy
        return True
