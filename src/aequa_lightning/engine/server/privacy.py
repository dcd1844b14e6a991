"""User-level differential privacy: the shared model hardly depends on whether any one participant took part."""

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

# The accountant rounds losses of privacy up to multiples of this, and a composition of them likewise.
INTERVAL = 1e-3


@dataclass(frozen=True)
class Privacy:
    """Bounded updates and Gaussian noise on their sum (DP-FedAvg; McMahan et al., ICLR 2018), added by the server.

    After every round the run states the epsilon that it has spent, as ``dp-accounting`` computes it (the extra
    ``privacy``). It holds for whether a participant's data were there at all, and for each round's participants being
    chosen independently of each other: ``participation.sampling=poisson``, or all.

    Args:
        clip: Largest Euclidean norm of a participant's update, > 0; longer ones are shortened to it.
        noise_multiplier: Standard deviation of the noise on the sum of updates, relative to ``clip``, >= 0.1.
        delta: Probability with which epsilon may fail to hold, in (0, 1 / participants).

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
                f"trainer.privacy.noise_multiplier={self.noise_multiplier} must be at least 0.1: less protects nobody."
            )
        if not 0 < self.delta < 1:
            raise InputError(f"trainer.privacy.delta={self.delta} must lie in (0, 1).")

    def check(self, participants: int) -> None:
        """Prove that the promise means something.

        Raises:
            InputError: Giving away everything about one participant at random would keep it too.
        """
        if self.delta * participants >= 1:
            raise InputError(
                f"trainer.privacy.delta={self.delta} must be below 1 / data.participants = {1 / participants:g}; "
                "choose far less."
            )


class PrivateAverage:
    """How a run averages updates privately, and what that has spent.

    A round's sum is divided by the number of participants that are meant to take part, whoever did, so that neither
    the divisor tells of anybody, nor a round without updates of nobody.

    Args:
        privacy: What is asked for.
        participants: Number of participants of the run.
        per_round: How many of them a round has in the mean; None: all.
        seed: The run's seed.
        settings: Everything else that decides what participants send, and what becomes of it.
    """

    def __init__(self, privacy: Privacy, *, participants: int, per_round: int | None, seed: int, settings: str) -> None:
        self.privacy = privacy
        self.weight = 1 / (per_round or participants)
        self._probability = (per_round or participants) / participants
        self._seed, self._settings = seed, settings
        # A digest of how all rounds so far were done.
        self.course = ""

    def clip(self, update: Tensor) -> Tensor:
        """Return an update, shortened where it is too long; of shape (P,)."""
        return clip_to_norm(update, self.privacy.clip)

    def noise(self, size: int, *, round: int, rates: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return a round's noise on the average, the same in every process.

        Whatever is done otherwise than before, in this round or one before it, has noise of its own: of two different
        sums with the same noise anybody could tell the difference without any.

        Args:
            size: P.
            round: Its number.
            rates: Options of the optimizer in this round.

        Returns:
            float64 of shape (P,), on the CPU.
        """
        self.course = hashlib.sha256(f"{self.course}\n{self._settings}\n{rates}".encode()).hexdigest()
        generator = derive_generator(self._seed, "privacy", round, self.course)
        deviation = self.privacy.noise_multiplier * self.privacy.clip * self.weight
        return torch.randn(size, generator=generator, dtype=torch.float64).mul_(deviation)

    def epsilon(self, rounds: int) -> float:
        """Return the epsilon that so many rounds spend."""
        return spent_epsilon(
            self.privacy.noise_multiplier, rounds, delta=self.privacy.delta, probability=self._probability
        )

    def describe(self) -> dict[str, Any]:
        """Return what the run's record says of it."""
        return {
            "clip": self.privacy.clip,
            "noise_multiplier": self.privacy.noise_multiplier,
            "delta": self.privacy.delta,
            "sampling_probability": self._probability,
        }


def clip_to_norm(update: Tensor, bound: float) -> Tensor:
    """Scale a vector down to a Euclidean norm, if it is longer.

    Args:
        update: Floating point, finite.
        bound: > 0.

    Example:
        >>> clip_to_norm(torch.tensor([3.0, 4.0]), 1.0), clip_to_norm(torch.tensor([3.0, 4.0]), 6.0)
        (tensor([0.6000, 0.8000]), tensor([3., 4.]))
    """
    norm = float(torch.linalg.vector_norm(update, dtype=torch.float64))
    return update if norm <= bound else update * (bound / norm)


def spent_epsilon(noise_multiplier: float, rounds: int, *, delta: float, probability: float) -> float:
    """Return the epsilon of some rounds of the Gaussian mechanism over independently chosen participants.

    Args:
        noise_multiplier: Standard deviation of the noise relative to what one participant can add, > 0.
        rounds: How many, >= 0.
        delta: Probability with which epsilon may fail to hold, in (0, 1).
        probability: With which each participant is chosen for a round, in (0, 1].

    Returns:
        For all participants in every round the exact value (Balle and Wang, ICML 2018); else an upper bound that is
        tight to about 1e-3, from the distribution of the privacy loss (Doroshenko et al., PETS 2022). Both hold for
        adding or taking away one participant.

    Raises:
        InputError: The accountant is not installed.
    """
    check_accountant()
    if rounds == 0:
        return 0.0
    if probability == 1:
        from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

        # The sum of the rounds' losses is the loss of one round with less noise.
        return float(get_epsilon_gaussian(noise_multiplier / math.sqrt(rounds), delta))
    return float(_losses(noise_multiplier, probability).self_compose(rounds).get_epsilon_for_delta(delta))


@cache
def _losses(noise_multiplier: float, probability: float) -> Any:
    """Return the distribution of one round's privacy loss."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(noise_multiplier, sampling_prob=probability, value_discretization_interval=INTERVAL)


def check_accountant() -> None:
    """Prove that what is spent can be told.

    Raises:
        InputError: The accountant is not installed.
    """
    try:
        import dp_accounting  # noqa: F401
    except ImportError as error:
        raise InputError(
            "trainer.privacy is accounted for by dp-accounting, which is not installed; "
            "pip install 'aequa-lightning[privacy]', or leave trainer.privacy out."
        ) from error
