"""What an estimator of contributions returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError

Coalitions = NDArray[np.bool_]
"""One coalition a row, (C, N): who takes part."""

Utility = Callable[[Coalitions], NDArray[np.float64]]
"""What coalitions are worth: bool (C, N) -> float (C,). The empty coalition is asked for too."""


@dataclass(frozen=True, eq=False)
class Values:
    """Contributions with their uncertainty and their price. Passes for its ``values`` wherever numpy takes an array.

    Attributes:
        values: Contribution of each player, in the utility's unit, (N,).
        standard_errors: Standard error of each, (N,); zero when exact.
        evaluations: How many coalitions the utility was asked for.

    Example:
        >>> np.add(Values(np.array([1.0, 2.0]), np.zeros(2), 4), 1).tolist()
        [2.0, 3.0]
    """

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    evaluations: int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, player: int) -> float:
        return float(self.values[player])


def evaluate(utility: Utility, coalitions: Coalitions) -> NDArray[np.float64]:
    """Ask the utility and check what it answers.

    Args:
        utility: See ``Utility``.
        coalitions: Coalitions, (C, N).

    Returns:
        Their worth, (C,).

    Raises:
        InputError: When the answer has another shape or is not finite.

    Example:
        >>> evaluate(lambda coalitions: coalitions.sum(axis=1), np.eye(2, dtype=bool)).tolist()
        [1.0, 1.0]
    """
    worth = np.asarray(utility(coalitions), dtype=np.float64)
    if worth.shape != (len(coalitions),):
        raise InputError(
            f"the utility returned the shape {worth.shape} for {len(coalitions)} coalitions; return one each."
        )
    if not np.isfinite(worth).all():
        members = np.flatnonzero(coalitions[~np.isfinite(worth)][0]).tolist()
        raise InputError(f"the utility is not finite for the coalition {members}; bound it (say, clip the loss).")
    return worth
