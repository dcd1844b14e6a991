"""The ranges of the trainer's numbers."""

from collections.abc import Mapping
from typing import Any

from aequa_lightning.errors import InputError

# A schedule is tried out for all rounds before the first one.
MAX_ROUNDS = 100_000
# Epochs, steps and other counts: far beyond what is of use, and small enough that no sum overflows.
MAX_COUNT = 1_000_000_000
# No machine has more cores, and far more threads cannot be started.
MAX_THREADS = 1024
# Minutes in a month.
MAX_TIMEOUT = 31 * 24 * 60


COUNTS = (
    *("num_nodes", "replicas", "threads", "max_rounds", "local_epochs", "local_steps", "participants_per_round"),
    *("checkpoint_every", "keep_checkpoints", "stacking"),
)


def check_counts(options: Mapping[str, Any]) -> None:
    """Check that numbers of rounds, epochs, processes and the like are at least 1 and not absurdly large.

    Args:
        options: The trainer's, by name; words and None are no numbers, and are passed over.

    Raises:
        InputError: One is out of range.

    Example:
        >>> check_counts({"max_rounds": 10, "local_steps": None, "stacking": "off"})
        >>> check_counts({"max_rounds": 0})
        Traceback (most recent call last):
        aequa_lightning.errors.InputError: trainer.max_rounds=0 must be at least 1.
    """
    numbers = {key: options.get(key) for key in COUNTS}
    for key, number in numbers.items():
        if not isinstance(number, int) or number is False:
            continue
        if number < 1:
            raise InputError(f"trainer.{key}={number} must be at least 1.")
        most = {"max_rounds": MAX_ROUNDS, "threads": MAX_THREADS}.get(key, MAX_COUNT)
        if number > most:
            advice = "; processes use cores better." if key == "threads" else "."
            raise InputError(f"trainer.{key}={number} must be at most {most}{advice}")


def check_timeout(minutes: float) -> None:
    """Check the longest wait for another process.

    Raises:
        InputError: It is not positive, or longer than a month.

    Example:
        >>> check_timeout(30.0)
    """
    if not 0 < minutes <= MAX_TIMEOUT:
        raise InputError(f"trainer.timeout_minutes={minutes} must be above 0, and at most {MAX_TIMEOUT} (a month).")
