"""User-level differential privacy: clipped updates, Gaussian noise on their sum, and the epsilon that is spent."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.errors import InputError

# Discretization of the accountant: privacy losses are rounded up to multiples of this number.
INTERVAL = 1e-3


@dataclass(frozen=True)
class Privacy:
    """Bounded updates and Gaussian noise on their sum (DP-FedAvg; McMahan et al., ICLR 2018), added by the server.

    After every round the run records the epsilon that it has spent, computed by ``dp-accounting`` (the extra
    ``privacy``). Neighbouring data sets differ by all data of one participant. The guarantee needs rounds in which
    all take part, or participants that are chosen independently: ``participation.sampling=poisson``.

    Args:
        clip: Largest Euclidean norm of a participant's update, > 0; longer updates are scaled down to it.
        noise_multiplier: Standard deviation of the noise on the sum of updates, relative to ``clip``, >= 0.1.
        delta: Probability with which the bound epsilon may fail, in (0, 1 / participants).

    Raises:
        InputError: A value is out of range.
    """

    clip: float = 1.0
    noise_multiplier: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.clip < math.inf:
            raise InputError(f"trainer.privacy.clip={self.clip} must be above 0.")
        if not 0.1 <= self.noise_multiplier < math.inf:
            raise InputError(
                f"trainer.privacy.noise_multiplier={self.noise_multiplier} must be at least 0.1: "
                "less noise gives no useful epsilon."
            )
        if not 0 < self.delta < 1:
            raise InputError(f"trainer.privacy.delta={self.delta} must lie in (0, 1).")

    def check(self, participants: int) -> None:
        """Check that delta is below 1 / participants.

        Args:
            participants: Number of participants of the run.

        Raises:
            InputError: It is not: publishing all data of one random participant would satisfy the guarantee too.
        """
        if self.delta * participants >= 1:
            raise InputError(
                f"trainer.privacy.delta={self.delta} must be below 1 / data.participants = {1 / participants:g}; "
                "choose far less."
            )


class PrivateAverage:
    """Clipping, noise and accounting of a run's private average.

    A round's sum is divided by the expected number of participants, not by the actual one, because the actual number
    would reveal who took part.

    Args:
        privacy: The options of ``trainer.privacy``.
        participants: Number of participants of the run.
        per_round: Expected number of participants of a round; None: all.
        seed: The run's seed.
        settings: Text that identifies all other settings that influence updates and their aggregation.

    Attributes:
        weight: Weight of each update in the average: 1 / expected number of participants of a round.
        course: Hash of the settings of all rounds so far.
    """

    def __init__(self, privacy: Privacy, *, participants: int, per_round: int | None, seed: int, settings: str) -> None:
        self.privacy = privacy
        self.weight = 1 / (per_round or participants)
        self._probability = (per_round or participants) / participants
        self._seed, self._settings = seed, settings
        self.history = ""

    def clip(self, update: Tensor) -> Tensor:
        """Return an update of shape (P,), scaled down to the largest norm if it is longer."""
        return clip_to_norm(update, self.privacy.clip)

    def noise(self, size: int, *, round: int, rates: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return a round's noise on the average, the same in every process.

        The noise depends on the settings of this round and of all before it. If two runs with different settings
        used the same noise, the difference of their sums would contain none.

        Args:
            size: P.
            round: Number of the round.
            rates: Options of the optimizer in this round.

        Returns:
            float64 of shape (P,), on the CPU.
        """
        self.history = hashlib.sha256(f"{self.history}\n{self._settings}\n{rates}".encode()).hexdigest()
        generator = derive_generator(self._seed, "privacy", round, self.history)
        deviation = self.privacy.noise_multiplier * self.privacy.clip * self.weight
        return torch.randn(size, generator=generator, dtype=torch.float64).mul_(deviation)

    def epsilon(self, rounds: int) -> float:
        """Return the epsilon that a number of rounds spends."""
        return spent_epsilon(
            self.privacy.noise_multiplier, rounds, delta=self.privacy.delta, probability=self._probability
        )

    def describe(self) -> dict[str, Any]:
        """Return the settings of privacy for the run's record."""
        return {
            "clip": self.privacy.clip,
            "noise_multiplier": self.privacy.noise_multiplier,
            "delta": self.privacy.delta,
            "sampling_probability": self._probability,
        }


def clip_to_norm(update: Tensor, bound: float) -> Tensor:
    """Scale a vector down to a Euclidean norm if it is longer; else return it unchanged.

    Args:
        update: Floating point, finite.
        bound: Largest norm, > 0.

    Example:
        >>> clip_to_norm(torch.tensor([3.0, 4.0]), 1.0), clip_to_norm(torch.tensor([3.0, 4.0]), 6.0)
        (tensor([0.6000, 0.8000]), tensor([3., 4.]))
    """
    norm = float(torch.linalg.vector_norm(update, dtype=torch.float64))
    return update if norm <= bound else update * (bound / norm)


def spent_epsilon(noise_multiplier: float, rounds: int, *, delta: float, probability: float) -> float:
    """Return the epsilon of a number of rounds of the Gaussian mechanism over independently chosen participants.

    Args:
        noise_multiplier: Standard deviation of the noise relative to the largest norm of an update, > 0.
        rounds: Number of rounds, >= 0.
        delta: Probability with which the bound epsilon may fail, in (0, 1).
        probability: Probability that a participant is chosen for a round, in (0, 1].

    Returns:
        The exact value if ``probability`` is 1 (Balle and Wang, ICML 2018); else an upper bound that is tight to about
        1e-3, from the distribution of the privacy loss (Doroshenko et al., PETS 2022). Both hold for adding or
        removing one participant.

    Raises:
        InputError: The accountant is not installed.
    """
    check_accountant()
    if rounds == 0:
        return 0.0
    if probability == 1:
        from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

        # Rounds compose to a single Gaussian mechanism with less noise.
        return float(get_epsilon_gaussian(noise_multiplier / math.sqrt(rounds), delta))
    return float(_loss_distribution(noise_multiplier, probability).self_compose(rounds).get_epsilon_for_delta(delta))


@cache
def _loss_distribution(noise_multiplier: float, probability: float) -> Any:
    """Return the distribution of one round's privacy loss."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(noise_multiplier, sampling_prob=probability, value_discretization_interval=INTERVAL)


def check_accountant() -> None:
    """Check that ``dp-accounting``, which computes epsilon, is installed.

    Raises:
        InputError: It is not installed.
    """
    try:
        import dp_accounting  # noqa: F401
    except ImportError as error:
        raise InputError(
            "trainer.privacy needs dp-accounting, which is not installed; "
            "pip install 'aequa-lightning[privacy]', or leave trainer.privacy out."
        ) from error
