"""What a participant tells the server of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What a participant tells the server of itself.

    Attributes:
        samples: Number of training samples, >= 1.
        class_counts: How many it holds of each class.
        digest: SHA-256 of its data.
        parameters: SHA-256 of the parameters that its model begins with.
    """

    samples: int
    class_counts: tuple[int, ...]
    digest: str
    parameters: str
