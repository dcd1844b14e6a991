"""Payments between participants: budget balance, individual rationality, and what is deserved where no cap binds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.transfers import transfers

SHARES = st.floats(0, 1, allow_subnormal=False)
PEOPLE = st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=12)


@given(PEOPLE, st.floats(0, 3), st.floats(0.01, 1000))
def test_payments_balance_and_nobody_pays_more_than_its_gain(
    people: list[tuple[float, float, float]], slope: float, price: float
) -> None:
    contributions, received, standalone = map(np.array, zip(*people, strict=True))
    amounts = transfers(contributions, received, standalone=standalone, slope=slope, price=price)
    unit = 100 * price
    assert abs(amounts.sum()) < 1e-9 * unit * len(people)
    paying = amounts < -1e-9 * unit
    worth = received + amounts / unit
    assert (worth[paying] >= standalone[paying] - 1e-9).all()
    # Nobody pays who received no more than it deserves, and nobody is paid who did.
    surplus = (received - slope * contributions) - (received - slope * contributions).mean()
    assert (amounts * surplus <= 1e-9 * unit).all()


@given(PEOPLE, st.floats(0, 3))
def test_without_a_binding_cap_everybody_ends_with_what_it_deserves(
    people: list[tuple[float, float, float]], slope: float
) -> None:
    contributions, received, _ = map(np.array, zip(*people, strict=True))
    # Training alone is worthless, and everybody received more than the largest debt.
    received = received + 5
    amounts = transfers(contributions, received, standalone=np.zeros(len(people)), slope=slope, price=1.0)
    worth = received + amounts / 100
    assert worth - slope * contributions == pytest.approx(np.full(len(people), (worth - slope * contributions).mean()))


def test_equal_participants_pay_alike_and_the_price_is_a_unit() -> None:
    contributions, received, alone = [0.25, 0.25, 0.5], [0.75, 0.75, 0.75], [0.25, 0.25, 0.5]
    amounts = transfers(contributions, received, standalone=alone, slope=1.0, price=1.0)
    assert amounts[0] == amounts[1] == pytest.approx(-100 * 0.25 / 3)
    assert transfers(contributions, received, standalone=alone, slope=1.0, price=3.0) == pytest.approx(3 * amounts)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(InputError, match="--price"):
        transfers([0.5], [0.5], standalone=[0.5], slope=1.0, price=price)
