"""Who is caught at what, in words."""

import torch

from aequa_lightning.callbacks.assessment.screening import Detected, screen

NAMES = ["a", "b", "c", "d", "e", "f"]


def test_every_reason_is_told_once_and_the_first_one_counts() -> None:
    updates = torch.eye(6)
    updates[1] = 0
    updates[2] *= 50
    updates[3] *= 50
    updates[5] = updates[4]
    detected = Detected(torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]), [1], [])
    found = screen(
        updates @ updates.T,
        detected,
        accepted=range(6),
        refused=[],
        work=torch.ones(6),
        held=torch.ones(6),
        names=NAMES,
    )
    # The fourth is both a replay and far too long.
    assert found.reasons == {1: "null", 3: "replay", 2: "scaled", 4: "clone of f", 5: "clone of e"}
    assert (found.participants, found.group) == ([0, 4, 5], (0, 1, 1))
    assert [sentence.split(" sent")[0] for sentence in found.sentences] == ["b", "d", "c", "e, f"]
    assert "far longer than its work explains" in found.sentences[2]


def test_whoever_is_left_keeps_its_index() -> None:
    updates = torch.eye(3)
    nobody = Detected(torch.ones(3), [], [])
    found = screen(
        updates, nobody, accepted=[1, 3, 4], refused=[0], work=torch.ones(3), held=torch.ones(3), names=NAMES
    )
    assert found.reasons == {0: "non-finite"}
    assert (found.participants, found.representatives()) == ([1, 3, 4], {1, 3, 4})
    assert found.spread(torch.tensor([1.0, 2.0, 3.0]), 6).tolist() == [0, 1, 0, 2, 3, 0]


def test_who_is_suspected_is_worth_nothing() -> None:
    detected = Detected(torch.ones(4), [2], [0], [3])
    found = screen(
        torch.eye(4), detected, accepted=range(4), refused=[], work=torch.ones(4), held=torch.ones(4), names=NAMES
    )
    assert found.reasons == {2: "nothing new", 0: "harmful", 3: "false labels"}
    assert found.participants == [1]
    assert "worse than guessing" in found.sentences[0]
    assert "nothing new but noise" in found.sentences[1]
    assert "do worse than their opposites" in found.sentences[2]


def test_names_with_the_same_data_are_one_player_unless_they_are_caught() -> None:
    detected = Detected(torch.ones(5), [4], [], same=[(0, 2), (2, 3), (1, 4)])
    found = screen(
        torch.eye(5), detected, accepted=range(5), refused=[], work=torch.ones(5), held=torch.ones(5), names=NAMES
    )
    assert (found.participants, found.group, found.identities()) == ([0, 1, 2, 3], (0, 1, 0, 0), [[0, 2, 3]])
    assert found.reasons == {
        4: "nothing new",
        0: "same data as c, d",
        2: "same data as a, d",
        3: "same data as a, c",
    }
    assert found.sentences[-1] == "a, c, d have been training on the same data; valued as one, paid as one"
