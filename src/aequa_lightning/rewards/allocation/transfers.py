"""Money for what models leave: whoever received more than it deserves pays those who received less.

Model rewards and payments together are studied by Nguyen, Low and Jaillet, "Trade-off between Payoff and Model Rewards
in Shapley-Fair Collaborative Machine Learning", NeurIPS 2022. The rule here settles an allocation that exists already.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError


def transfers(
    contributions: ArrayLike, received: ArrayLike, *, standalone: ArrayLike, slope: float, price: float
) -> NDArray[np.float64]:
    """Return the money that each participant receives; who pays has a negative amount.

    Of all that is handed out, each deserves ``level + slope * contribution``, where the level makes the sum of what is
    deserved equal to the sum of what is received. Who received more owes the difference, but never more than its gain
    over training alone. What is paid is divided in proportion to what the others lack. So

    - the amounts sum to zero (budget balance),
    - nobody who gained by its model ends below what it reaches alone, and nobody else pays (individual rationality),
    - where no debt exceeds a gain, everybody ends exactly with what it deserves.

    Args:
        contributions: In units of accuracy, (N,).
        received: Accuracy of each participant's model, in [0, 1], (N,).
        standalone: Accuracy that each reaches alone, in [0, 1], (N,).
        slope: Accuracy that one more unit of contribution deserves, >= 0.
        price: Money for one point of accuracy (a hundredth), > 0.

    Returns:
        Amounts in the unit of the price, (N,).

    Raises:
        InputError: The price is no finite number above 0.

    Example:
        >>> transfers([0.25, 0.5], [0.75, 0.75], standalone=[0.25, 0.5], slope=1.0, price=2.0).tolist()
        [-25.0, 25.0]
    """
    check_price(price)
    brought, paid = np.asarray(contributions, dtype=np.float64), np.asarray(received, dtype=np.float64)
    surplus = paid - slope * brought
    surplus -= surplus.mean()
    gain = (paid - np.asarray(standalone, dtype=np.float64)).clip(min=0)
    owed, lacking = np.minimum(surplus.clip(min=0), gain), (-surplus).clip(min=0)
    share = owed.sum() / lacking.sum() if lacking.any() else 0.0
    amounts: NDArray[np.float64] = 100 * price * (lacking * share - owed)
    return amounts


def check_price(price: float) -> None:
    """Check the price of a point.

    Raises:
        InputError: It is no finite number above 0.
    """
    if not 0 < price < np.inf:
        raise InputError(f"--price {price} is no finite number above 0; it is the money for one point of accuracy.")
