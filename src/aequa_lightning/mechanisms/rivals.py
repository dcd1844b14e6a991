"""The mechanisms that Aequa is compared with, each a target and a means of payment.

All of them send every participant a model of its own in every round, except :class:`SharedModel`, which gives
everybody the full width at the end. Deviations from the sources stand in the docstrings. Measures that a source pays by
and that are not the default here are chosen by ``contribution``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidByWidth, PaidInRounds
from aequa_lightning.mechanisms.payment import (
    LastLayers,
    Masking,
    Mixing,
    Neurons,
    OwnModel,
    Payment,
    Ranked,
    ServerModel,
    SubsetAveraging,
)
from aequa_lightning.mechanisms.targets import Everything, Relative, Surviving, Tanh, Target
from aequa_lightning.rewards.allocation.allocate import Allocation, allocate_widths


@dataclass(frozen=True)
class SharedModel(PaidByWidth):
    """Everybody receives the full width, as in federated averaging (McMahan et al. 2017).

    The cost of fairness is measured against it.

    Args:
        contribution: The measure that the report sets against what is received; it decides nothing.
    """

    contribution: str = "standalone"

    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Give everybody the full width."""
        return allocate_widths(contributions, accuracy_by_width, "full")


@dataclass(frozen=True)
class Standalone(PaidInRounds):
    """No collaboration: each trains its own model, round after round, with a new optimizer in each.

    The measure ``standalone`` is the same training in one go, with the optimizer's state kept; the two differ a little.
    """

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all, and each participant's own model."""
        return Everything(), OwnModel()


@dataclass(frozen=True)
class FineTuning(PaidInRounds):
    """FedAvg-FT: the average model, then some epochs of local training (McMahan et al. 2017; Yu et al. 2020).

    Args:
        epochs: Passes of each participant over its own data after the last round, >= 1.

    Raises:
        InputError: The number is out of range.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"trainer.mechanism.epochs={self.epochs} must be at least 1; FedAvg is SharedModel.")

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all: the server's model, adapted."""
        return Everything(), ServerModel(final_epochs=self.epochs)


@dataclass(frozen=True)
class LGFedAvg(PaidInRounds):
    """Only the layers next to the output are averaged (Liang et al., "Think Locally, Act Globally", 2020).

    The source also evaluates ensembles for new participants, which are no reward and are left out.

    Args:
        layers: Layers with parameters that are shared, counted from the output, >= 1; 3 are the three fully connected
            layers of the paper's CNN.

    Raises:
        InputError: The number is out of range.
    """

    layers: int = 3

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise InputError(f"trainer.mechanism.layers={self.layers} must be at least 1; 0 would be Standalone.")

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all: the last layers."""
        return Everything(), LastLayers(self.layers)


@dataclass(frozen=True)
class CGSV(PaidInRounds):
    """Gradient rewards by cosine gradient Shapley value (Xu et al., NeurIPS 2021).

    Updates are scaled to one length and averaged by reputation; participant i moves by the largest entries of the
    average in each layer, a share ``tanh(beta r_i) / max tanh(beta r)`` of them. Reputations r are moving averages of
    cosines (the measure ``cosine``, weight .95 on the past). In the source the download of a round enters the next
    one's training the same way; here gates may stand before the cosine.

    Args:
        contribution: The measure that is paid for.
        beta: Altruism, > 0.
        length: Length that every update is scaled to, > 0; the source takes .5 (MNIST), .15 (CIFAR-10), 1 (SST).

    Raises:
        InputError: A value is out of range.
    """

    contribution: str = "cosine"
    beta: float = 1.0
    length: float = 0.5

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.length > 0):
            raise InputError(f"trainer.mechanism: beta={self.beta} and length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return squashed ratios of reputations, and masks of the aggregate."""
        return Tanh(self.beta), Masking(self.length)


@dataclass(frozen=True)
class RFFL(PaidInRounds):
    """Robust and fair federated learning (Xu and Lyu, "A Reputation Mechanism Is All You Need", 2021).

    Like CGSV with shares ``r_i / max r``; after some rounds, participants with less than a third of an equal share of
    reputation receive nothing. The source removes them for good, as the measure ``rffl`` does; with ``cosine`` they are
    compared again in every round.

    Args:
        contribution: The measure that is paid for.
        threshold: Part of an equal share of reputation below which one receives nothing, in [0, 1).
        after: Rounds in which nobody is left out, >= 0.
        length: Length that every update is scaled to, > 0.

    Raises:
        InputError: A value is out of range.
    """

    contribution: str = "cosine"
    threshold: float = 1 / 3
    after: int = 10
    length: float = 0.5

    def __post_init__(self) -> None:
        Surviving(self.threshold, self.after)
        if not self.length > 0:
            raise InputError(f"trainer.mechanism.length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios of those who stay, and masks of the aggregate."""
        return Surviving(self.threshold, self.after), Masking(self.length)


@dataclass(frozen=True)
class CFFL(PaidInRounds):
    """Collaborative fairness (Lyu et al., "Collaborative Fairness in Federated Learning", 2020).

    Each downloads a share of the aggregated update, the largest entries first, in proportion to its reputation; a
    participant with less than two thirds of an equal share receives nothing. The source scores uploaded updates by
    their accuracy on the server's data, raised by a hyperbolic sine and smoothed, which is the measure ``cffl``; the
    default here is the accuracy alone on the same data, which does not change from round to round.

    Args:
        contribution: The measure that is paid for.
        threshold: Part of an equal share below which one receives nothing, in [0, 1).
    """

    contribution: str = "standalone"
    threshold: float = 2 / 3

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios of those who stay, and masks of the mean update."""
        return Surviving(self.threshold, after=0), Masking()


@dataclass(frozen=True)
class FedAVE(PaidInRounds):
    """Adaptive data value evaluation (Wang et al., "FedAVE", 2024), as peers describe it.

    The score is the validation accuracy times the squared divergence of one's classes from those of all; the share is
    ``tanh(beta score)`` over its largest value. The source scales shares once more by the divergence; where all classes
    are alike every score is 0 here, and all receive the same.

    Args:
        contribution: The measure that takes the place of the accuracy.
        beta: Altruism, > 0.
    """

    contribution: str = "standalone"
    beta: float = 1.0

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Target, Payment]:
        """Return squashed ratios of scores, and masks of the mean update."""
        return Tanh(self.beta, imbalance=True), Masking()


@dataclass(frozen=True)
class IAFL(PaidInRounds):
    """Incentive-aware federated learning with training-time model rewards (Wu et al., ICML 2024).

    With ``gamma_i = c_i / max c`` participant i averages its own update with those of
    ``ceil(gamma_i ** (1 - kappa) (N - 1))`` others, drawn anew in every round; with probability ``reset`` it is given
    the server's model instead, which is the source's way to keep models from drifting apart.

    Args:
        contribution: The measure that is paid for.
        kappa: 0: in proportion; towards 1: all others for everybody, in [0, 1).
        reset: Probability of a reset in a round, in [0, 1].

    Raises:
        InputError: A value is out of range.
    """

    contribution: str = "standalone"
    kappa: float = 0.0
    reset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.kappa < 1 and 0 <= self.reset <= 1):
            raise InputError(
                f"trainer.mechanism: kappa={self.kappa} must lie in [0, 1) and reset={self.reset} in [0, 1]."
            )

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and averages over subsets."""
        return Relative(), SubsetAveraging(self.kappa, self.reset)


@dataclass(frozen=True)
class Rank(PaidInRounds):
    """The mean update of all participants ranked at or below oneself: a baseline of IAFL (Wu et al., ICML 2024).

    Args:
        contribution: The measure that ranks; equal contributions learn from each other.
    """

    contribution: str = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, which the payment does not need, and the mean by rank."""
        return Relative(), Ranked()


@dataclass(frozen=True)
class ShapFed(PaidInRounds):
    """ShapFed-WA (Tastan et al., "Redefining Contributions: Shapley-Driven Federated Learning", IJCAI 2024).

    The contribution gamma is the class-wise cosine of last-layer updates (the measure ``class_cosine``); the server
    averages the trained models by ``gamma / sum gamma``, and participant i keeps ``(1 - g_i)`` of its own, with ``g``
    the ratio to the top contributor.

    Args:
        contribution: The measure that is paid for.
    """

    contribution: str = "class_cosine"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and mixtures of own and average."""
        return Relative(), Mixing()


@dataclass(frozen=True)
class FedSAC(PaidInRounds):
    """Sub-models of the most important neurons, after the abstract of "FedSAC" (Wang et al., KDD 2024).

    Neither the paper's text nor its code was at hand: figures of this class say nothing of FedSAC itself. Participant i
    receives a share of every layer's neurons, the most important ones, and keeps its own of the others. Importance is
    the length of a neuron's weights here; the averaging of rarely held neurons is not reproduced.

    Args:
        contribution: The measure that is paid for.
    """

    contribution: str = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and important neurons."""
        return Relative(), Neurons()


@dataclass(frozen=True)
class FedRAC(PaidInRounds):
    """Rolling sub-models sized by contribution, after the abstract of "FedRAC" (CVPR 2026).

    Neither the paper's text nor its code was at hand: figures of this class say nothing of FedRAC itself. Participant i
    receives a share of every layer's neurons: a window that moves on by one neuron in each round, so that every neuron
    is trained and received in turn. The source's rules for sizes and frequencies are not reproduced.

    Args:
        contribution: The measure that is paid for.
    """

    contribution: str = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and windows of neurons."""
        return Relative(), Neurons(rolling=True)
