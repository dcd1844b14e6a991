"""Who is caught in most rounds is not paid, and does not change what the others are paid."""

import pytest

from aequa_lightning.callbacks.assessment.conviction import Conviction
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


def test_most_rounds_are_those_that_one_took_part_in() -> None:
    conviction = Conviction(3)
    conviction.note([0, 1], {0: "null"}, left_out=[0], identities=[])
    assert conviction.unpaid == {0}
    conviction.note([0, 2], {2: "clone of a"}, left_out=[], identities=[])
    assert conviction.unpaid == set()
    conviction.note([0, 1], {0: "harmful", 1: "scaled"}, left_out=[], identities=[])
    assert conviction.unpaid == {0}
    resumed = Conviction(3)
    resumed.load_state_dict(conviction.state_dict())
    assert resumed.remarks() == conviction.remarks()
    assert resumed.remarks()[0] == "harmful in 1 round; kept out of the average in 1 round; null in 1 round; not paid"


def test_one_identity_is_paid_once_from_the_first_round_on() -> None:
    conviction = Conviction(4)
    for number in range(1, 5):
        one = [[0, 2]] if number > 2 else []
        reasons = {0: "same data as c", 2: "same data as a"} if one else {}
        conviction.note(range(4), reasons, left_out=[], identities=one)
    assert conviction.unpaid == set()
    assert conviction.paid([0.5, 0.4, 0.7, 0.3]) == pytest.approx([0.3, 0.4, 0.3, 0.3])
    resumed = Conviction(4)
    resumed.load_state_dict(conviction.state_dict())
    assert resumed.paid([0.5, 0.4, 0.7, 0.3]) == conviction.paid([0.5, 0.4, 0.7, 0.3])


def test_a_pair_that_is_found_by_chance_shares_nothing() -> None:
    conviction = Conviction(3)
    for identities in ([], [[1, 2]], [], [], []):
        conviction.note(range(3), {}, left_out=[], identities=identities)
    assert conviction.paid([0.1, 0.2, 0.3]) == pytest.approx([0.1, 0.2, 0.3])


def test_three_names_of_one_share_and_whoever_cheats_takes_nothing() -> None:
    conviction = Conviction(4)
    conviction.note(range(4), {3: "null"}, left_out=[], identities=[[0, 1], [1, 2], [2, 3]])
    assert conviction.paid([0.6, 0.6, 0.6, 0.6]) == pytest.approx([0.2, 0.2, 0.2, 0.0])
