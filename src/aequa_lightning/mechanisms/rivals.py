"""The mechanisms that Aequa is compared with, each a target and a means of payment.

All of them send every participant a model of its own in every round, except :class:`SharedModel`, which gives
everybody the full width at the end. Each follows its authors' code where that is public. The docstrings say where one
deviates; docs/mechanisms.md has the table of sources. Common to all: updates pass the gates of ``trainer.assessment``
first, and accuracies are taken on the validation part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidByWidth, PaidInRounds
from aequa_lightning.mechanisms.payment import (
    Downloading,
    LastLayers,
    Masking,
    Mixing,
    Neurons,
    OwnAndMasked,
    OwnModel,
    Payment,
    Ranked,
    RollingSubmodels,
    ServerModel,
    SubsetAveraging,
)
from aequa_lightning.mechanisms.targets import Everything, Portion, Relative, Tanh, Target
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

    All participants count alike, as in the code of IAFL's authors, who compare with it. The source also evaluates
    ensembles for new participants, which are no reward and are left out.

    Args:
        layers: Layers with parameters that are shared, counted from the output, >= 1; 3 are the three fully connected
            layers of the paper's CNN.

    Raises:
        InputError: The number is out of range.
    """

    averaging = "alike"

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

    Updates are scaled to one length and summed by the reputations before the round, in the first round by data. A
    participant does not keep its own step: it moves by the largest entries of the sum in each layer, a share
    ``tanh(beta r_i) / max tanh(beta r)`` of them. Reputations r are moving averages of the cosines with the sum (the
    measure ``cosine``, weight .95 on the past).

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
        return Tanh(self.beta), Masking(self.length, weighing="contributions", withholds_one=True)


@dataclass(frozen=True)
class RFFL(PaidInRounds):
    """Robust and fair federated learning (Xu and Lyu, "A Reputation Mechanism Is All You Need", 2021).

    Updates longer than ``length`` are shortened to it and summed by the reputations before the round, in the first
    round by data. A participant keeps its own shortened step and adds the largest entries of the sum in each layer, a
    share ``r_i / max r`` of them. After ten rounds, whoever has less than a third of an equal share of reputation is
    removed for good: it trains on alone. That is part of the measure ``rffl``, moving averages of the cosines with the
    sum.

    Args:
        contribution: The measure that is paid for.
        length: Length that longer updates are shortened to, > 0; the source takes .5 (MNIST), .15 (CIFAR-10), 1 (SST).

    Raises:
        InputError: The length is out of range.
    """

    contribution: str = "rffl"
    length: float = 0.5

    def __post_init__(self) -> None:
        if not self.length > 0:
            raise InputError(f"trainer.mechanism.length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and own steps with masks of the aggregate."""
        return Relative(), OwnAndMasked(self.length, withholds_one=True)


@dataclass(frozen=True)
class CFFL(PaidInRounds):
    """Collaborative fairness (Lyu et al., "Collaborative Fairness in Federated Learning", 2020).

    Every entry of an update is cut to ``clip``. The measure ``cffl`` evaluates the models that result, and drops who
    falls below a third of an equal share: such a participant trains on alone. The others keep their own step and
    download entries of the aggregate, the largest of the whole network first, as many as reputation times data, each
    relative to the largest, allows. Of their own step they take back the part that is in the aggregate.

    This is the authors' setting in which everything is uploaded (their theta is 1; they also try .1), without
    pre-training, and with the largest entries downloaded (for MNIST they also draw them at random).

    Args:
        contribution: The measure that is paid for.
        clip: Magnitude that every entry of an update is cut to, > 0; the source takes .01 (MNIST, Adult) and .001
            (CIFAR-10, texts).
        aggregate: ``mean``: by data, as the source for Adult; ``sum``: all count 1, as for its other data.

    Raises:
        InputError: The magnitude is out of range.
    """

    contribution: str = "cffl"
    clip: float | None = 0.01
    aggregate: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.clip is None or not self.clip > 0:
            raise InputError(f"trainer.mechanism.clip={self.clip} must be a number above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and downloads of the aggregate."""
        assert self.clip is not None
        return Relative(), Downloading(self.clip, self.aggregate)


@dataclass(frozen=True)
class FedAVE(PaidInRounds):
    """Adaptive data value evaluation (Wang et al., "FedAVE", 2024).

    The measure ``fedave`` is a moving average of accuracy times squared likeness, where likeness is one over the
    Kullback-Leibler divergence between the batch losses on one's own data and those on the validation part, relative to
    the most alike. Updates are scaled to one length and averaged by data; a participant moves by the largest entries
    of the average in each layer, a share ``tanh(beta r_i) / max tanh(beta r)`` times likeness. The first round only
    measures.

    In the source's second round the participants still share one model object, so that rewards add up by mistake. That
    is not followed.

    Args:
        contribution: The measure that is paid for. Any other than ``fedave`` knows no likeness, which is then 1.
        beta: Altruism, > 0; the source's example has 5.
        length: Length that every update is scaled to, > 0.

    Raises:
        InputError: A value is out of range.
    """

    contribution: str = "fedave"
    beta: float = 2.0
    length: float = 0.5

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.length > 0):
            raise InputError(f"trainer.mechanism: beta={self.beta} and length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return squashed ratios of scores times likeness, and masks of the mean update."""
        return Tanh(self.beta, times_likeness=True), Masking(self.length, after=1, withholds_one=True)


@dataclass(frozen=True)
class IAFL(PaidInRounds):
    """Incentive-aware federated learning with training-time model rewards (Wu et al., ICLR 2024).

    With ``gamma_i = c_i / max c`` participant i averages its own update with those of
    ``ceil(gamma_i ** (1 - kappa) (N - 1))`` others, drawn anew in every round. With probability ``reset`` it starts the
    next round from the server's model instead, in which all count alike; that keeps models from drifting apart.

    Args:
        contribution: The measure that is paid for.
        kappa: 0: in proportion; towards 1: all others for everybody, in [0, 1).
        reset: Probability of a reset in a round, in [0, 1].

    Raises:
        InputError: A value is out of range.
    """

    averaging = "alike"

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
    """The mean update of all participants ranked at or below oneself: a baseline of IAFL (Wu et al., ICLR 2024).

    They are ranked anew in every round, by the accuracy of their own models after training. The source takes the
    accuracy on test data; here it is the validation part, for test data decide nothing in this project.

    Args:
        contribution: The measure that ranks.
    """

    contribution: str = "local_accuracy"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, which the payment does not need, and the mean by rank."""
        return Relative(), Ranked()


@dataclass(frozen=True)
class ShapFed(PaidInRounds):
    """ShapFed-WA (Tastan et al., "Redefining Contributions: Shapley-Driven Federated Learning", IJCAI 2024).

    The contribution gamma is the class-wise cosine of last-layer updates with their mean by the gamma before the round
    (the measure ``class_cosine``). The trained models are averaged by ``g = gamma / sum gamma``, and participant i
    receives ``(1 - g_i)`` of its own and ``g_i`` of the average. A negative gamma counts as 0.

    Args:
        contribution: The measure that is paid for.
        full_for_top: Whether g is relative to the top contributor, who then receives the average itself. In the source
            that is a line which is commented out; with g by the sum, N equal participants move by 1 / N of the way.
    """

    contribution: str = "class_cosine"
    full_for_top: bool = False

    def parts(self) -> tuple[Target, Payment]:
        """Return parts of the whole, or ratios, and mixtures of own and average."""
        return Relative() if self.full_for_top else Portion(), Mixing()


@dataclass(frozen=True)
class FedSAC(PaidInRounds):
    """Sub-models of the most important neurons, after the paper "FedSAC" (Wang et al., KDD 2024) alone.

    No code of its authors is public, so that figures of this class say little of FedSAC itself. Participant i
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
    """Rolling sub-models sized by contribution (Wang et al., "FedRAC", CVPR 2026).

    There is one model, the server's. In the first round everybody trains all of it; then each receives a sub-model made
    of the neurons that were used least so far, and each entry is averaged over those who moved it. Sizes are chosen by
    the sub-models' validation accuracy: not above what a participant reaches alone, plus a part of the full model's
    accuracy in proportion to ``exp(beta a_i)``. The best standalone accuracy receives all.

    Neurons are those of all linear and convolutional layers but the last, with the norm layers behind them; in the
    source's residual networks they are the outputs of whole stages. Standalone accuracies are on the validation part;
    in the source they are given as constants.

    Args:
        contribution: ``standalone``: sizes compare it with accuracies.
        beta: How much the best one's contribution exceeds the others', > 0; the source takes 80 (two hidden layers) and
            10 (ResNet).
        steps: Sizes of sub-models that are evaluated in each round, >= 1.
        early: Part of the gain that is held back in the end, in rounds up to ``switch``, in [0, 1).
        late: The same afterwards, in [0, 1).
        switch: The round, >= 1.

    Raises:
        InputError: A value is out of range, or another measure is named.
    """

    averaging = "moved"

    contribution: str = "standalone"
    beta: float = 80.0
    steps: int = 50
    early: float = 0.2
    late: float = 0.8
    switch: int = 100

    def __post_init__(self) -> None:
        if self.contribution != "standalone":
            raise InputError(
                f"trainer.mechanism.contribution={self.contribution!r} is no accuracy to compare sub-models with; "
                "FedRAC goes with 'standalone'."
            )
        if not (self.beta > 0 and self.steps >= 1 and self.switch >= 1):
            raise InputError(
                f"trainer.mechanism: beta={self.beta} must be above 0, steps={self.steps} and switch={self.switch} at "
                "least 1."
            )
        if not (0 <= self.early < 1 and 0 <= self.late < 1):
            raise InputError(f"trainer.mechanism: early={self.early} and late={self.late} must lie in [0, 1).")

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, which the payment does not need, and rolling sub-models."""
        return Relative(), RollingSubmodels(self.beta, self.steps, self.early, self.late, self.switch)
