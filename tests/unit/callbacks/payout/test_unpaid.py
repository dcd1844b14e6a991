"""Who is caught in most rounds is not paid, and does not change what the others are paid."""

import pytest

from aequa_lightning.callbacks.payout.unpaid import allocate_among
from aequa_lightning.mechanisms import Aequa

CURVE = {0.25: 0.5, 0.5: 0.7, 0.75: 0.8, 1.0: 0.9}
ALONE = [0.3, 0.8, 0.5, 0.6]


def test_the_others_are_paid_as_if_the_unpaid_were_not_there() -> None:
    found = allocate_among(Aequa(), [0.3, 0.0, 0.5, 0.6], CURVE, standalone=ALONE, held=[1.0] * 4, unpaid={1})
    others = Aequa().allocate([0.3, 0.5, 0.6], CURVE, standalone=[0.3, 0.5, 0.6], held=[1.0] * 3)
    assert found.widths[[0, 2, 3]].tolist() == others.widths.tolist()
    # Though it is best alone, it has no claim.
    assert (found.widths[1], found.accuracies[1]) == (0.25, 0.5)
    assert found.mcg == pytest.approx(sum(found.accuracies - [0.3, 0.0, 0.5, 0.6]) / 4)
    assert "participants 1 were caught in most rounds" in found.certificate["remarks"][-1]


@pytest.mark.parametrize("unpaid", [set(), {0, 1, 2, 3}])
def test_where_all_or_none_are_unpaid_nobody_is_left_out(unpaid: set[int]) -> None:
    found = allocate_among(Aequa(), ALONE, CURVE, standalone=ALONE, held=[1.0] * 4, unpaid=unpaid)
    assert found.widths.tolist() == Aequa().allocate(ALONE, CURVE, standalone=ALONE, held=[1.0] * 4).widths.tolist()
