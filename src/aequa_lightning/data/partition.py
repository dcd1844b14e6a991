"""Partitions as configuration: rules that divide samples among participants."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from aequa_lightning.data.preparation import IntArray
from aequa_lightning.data.splits import DIRICHLET_DRAWS, dirichlet, homogeneous, label_skew, quantity_imbalance
from aequa_lightning.errors import InputError

FEWER = "use fewer participants (data.participants)"


@dataclass(frozen=True)
class Samples:
    """The samples that a partition divides.

    Attributes:
        labels: Class of each sample, shape (samples,).
        rows: Position of each sample in the data set's training part, shape (samples,).
        groups: The data set's own grouping, such as the writer of a character, shape (samples,); None without one.
        size: Number of samples in the data set's training part.
    """

    labels: IntArray
    rows: IntArray
    groups: IntArray | None
    size: int


class Partition(ABC):
    """A rule that divides samples among participants. Subclasses are frozen dataclasses of plain values."""

    # What one can do where a participant would hold too few samples.
    remedy: ClassVar[str] = FEWER

    @abstractmethod
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        """Return one sorted index array per participant, disjoint and covering; see `split` for the arguments."""

    def split(
        self,
        labels: npt.ArrayLike,
        participants: int,
        seed: int,
        *,
        min_samples: int = 1,
        rows: IntArray | None = None,
        groups: IntArray | None = None,
        size: int | None = None,
        names: Sequence[str] | None = None,
    ) -> list[IntArray]:
        """Divide samples among participants; raise an error when one would hold too few.

        Args:
            labels: Class of each sample, integers, shape (samples,).
            participants: How many participants share the samples, at least 1.
            seed: Seed of the generator, at least 0.
            min_samples: The fewest samples a participant may hold.
            rows: Position of each sample in the data set's training part; by default 0, 1, 2, ...
            groups: The data set's own grouping of the samples, for partitions that follow it.
            size: Number of samples in the data set's training part; by default those that are divided.
            names: Names of the participants, for messages; by default their numbers.

        Returns:
            One sorted index array per participant.

        Raises:
            InputError: When the rule does not fit the labels or the number of participants, or when a participant
                would hold fewer than ``min_samples``.
        """
        labels = np.asarray(labels, dtype=np.int64)
        if participants < 1:
            raise InputError(f"data.participants is {participants}; it must be at least 1")
        if participants > len(labels):  # before a rule draws shares for each of them
            raise InputError(
                f"data.participants is {participants}, but there are {len(labels)} samples to divide; use fewer"
            )
        size = len(labels) if size is None else size
        samples = Samples(labels, np.arange(len(labels)) if rows is None else rows, groups, size)
        parts = self.assign(samples, participants, seed, min_samples=min_samples)
        sizes = [len(part) for part in parts]
        poorest = int(np.argmin(sizes))
        if sizes[poorest] < min_samples:
            named = "" if names is None else f" ({names[poorest]})"
            raise InputError(
                f"participant {poorest} of {participants}{named} would hold {sizes[poorest]} of {len(labels)} samples,"
                f" fewer than data.min_samples ({min_samples}); {self.remedy}"
            )
        return parts

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and settings as plain values."""
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Homogeneous(Partition):
    """Each participant holds an equal part of every class; see `homogeneous`."""

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        return homogeneous(samples.labels, participants, seed)


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Each class's shares are drawn from a Dirichlet distribution; see `dirichlet`.

    Args:
        alpha: Concentration, above 0; small values give each class to few participants, large ones to all alike.
    """

    alpha: float

    remedy: ClassVar[str] = (
        f"{FEWER}, a larger partition.alpha or a smaller min_samples ({DIRICHLET_DRAWS} draws failed)"
    )

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise InputError(f"partition.alpha is {self.alpha}; it must be a finite number above 0")

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        return dirichlet(samples.labels, participants, seed, alpha=self.alpha, min_samples=min_samples)


@dataclass(frozen=True)
class QuantityImbalance(Partition):
    """A few owners hold a fixed share of every class, the others divide the rest; see `quantity_imbalance`.

    Args:
        share: Part of every class that an owner holds, in (0, 1).
        owners: How many participants hold that part; ``owners * share`` stays below 1.
    """

    share: float
    owners: int

    remedy: ClassVar[str] = f"{FEWER}, or leave them more with a smaller partition.share or partition.owners"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.owners < 1 or self.share * self.owners >= 1:
            raise InputError(
                f"partition.share {self.share} for partition.owners {self.owners} leaves nothing for the others; share"
                " must lie between 0 and 1, owners be at least 1, and their product stay below 1"
            )

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        if self.owners >= participants:
            raise InputError(
                f"partition.owners is {self.owners} of {participants} participants; somebody must hold the rest:"
                " use fewer owners or more participants (data.participants)"
            )
        return quantity_imbalance(samples.labels, participants, seed, share=self.share, owners=self.owners)


@dataclass(frozen=True)
class LabelSkew(Partition):
    """Each participant holds a few classes only; see `label_skew`.

    Args:
        classes: How many classes each participant holds, at least 1.
    """

    classes: int

    remedy: ClassVar[str] = f"{FEWER}, or a larger partition.classes"

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise InputError(f"partition.classes is {self.classes}; it must be at least 1")

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        existing = len(np.unique(samples.labels))
        if self.classes > existing:
            raise InputError(f"partition.classes is {self.classes}, but the data hold {existing} classes; use fewer")
        if self.classes * participants < existing:
            raise InputError(
                f"{participants} participants with {self.classes} classes each cannot hold all {existing} classes;"
                f" raise partition.classes to {-(-existing // participants)} or data.participants"
            )
        return label_skew(samples.labels, participants, seed, classes=self.classes)
