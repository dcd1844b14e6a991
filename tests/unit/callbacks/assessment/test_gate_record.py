"""Who is caught in most of its rounds is not paid, and names that are one are paid once."""

import pytest

from aequa_lightning.callbacks.assessment.gate_record import GateRecord


def test_gate_record_most_rounds_are_those_that_one_took_part_in() -> None:
    gate_record = GateRecord(3)
    gate_record.note([0, 1], {0: "null"}, left_out=[0], identities=[])
    assert gate_record.unpaid == {0}
    gate_record.note([0, 2], {2: "clone of a"}, left_out=[], identities=[])
    assert gate_record.unpaid == set()
    gate_record.note([0, 1], {0: "harmful", 1: "scaled"}, left_out=[], identities=[])
    assert gate_record.unpaid == {0}
    resumed = GateRecord(3)
    resumed.load_state_dict(gate_record.state_dict())
    assert resumed.remarks() == gate_record.remarks()
    assert resumed.remarks()[0] == "harmful in 1 round; kept out of the average in 1 round; null in 1 round; not paid"


def test_gate_record_one_identity_is_paid_once_from_the_first_round_on() -> None:
    gate_record = GateRecord(4)
    for number in range(1, 5):
        one = [[0, 2]] if number > 2 else []
        reasons = {0: "same data as c", 2: "same data as a"} if one else {}
        gate_record.note(range(4), reasons, left_out=[], identities=one)
    assert gate_record.unpaid == set()
    assert gate_record.paid([0.5, 0.4, 0.7, 0.3]) == pytest.approx([0.3, 0.4, 0.3, 0.3])
    resumed = GateRecord(4)
    resumed.load_state_dict(gate_record.state_dict())
    assert resumed.paid([0.5, 0.4, 0.7, 0.3]) == gate_record.paid([0.5, 0.4, 0.7, 0.3])


def test_gate_record_a_pair_that_is_found_by_chance_shares_nothing() -> None:
    gate_record = GateRecord(3)
    for identities in ([], [[1, 2]], [], [], []):
        gate_record.note(range(3), {}, left_out=[], identities=identities)
    assert gate_record.paid([0.1, 0.2, 0.3]) == pytest.approx([0.1, 0.2, 0.3])


def test_gate_record_three_names_of_one_share_and_whoever_cheats_takes_nothing() -> None:
    gate_record = GateRecord(4)
    gate_record.note(range(4), {3: "null"}, left_out=[], identities=[[0, 1], [1, 2], [2, 3]])
    assert gate_record.paid([0.6, 0.6, 0.6, 0.6]) == pytest.approx([0.2, 0.2, 0.2, 0.0])


def test_gate_record_whoever_is_not_paid_is_not_valued_above_an_honest_participant() -> None:
    gate_record = GateRecord(4)
    gate_record.note(range(4), {3: "null"}, left_out=[], identities=[])
    assert gate_record.paid([0.4, -0.2, 0.1, 0.0]) == pytest.approx([0.4, -0.2, 0.1, -0.2])
