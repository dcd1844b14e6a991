from pathlib import Path
from typing import Any

import pytest
import torch

from aequa_lightning.engine.local.state import ParticipantStates
from aequa_lightning.errors import InputError

NAMES = ("a", "b", "c")


def of(number: int, index: int) -> dict[str, Any]:
    return {"variate": torch.tensor([number, index]), "optimizer": {0: {"step": number}}}


def work(memory: ParticipantStates, number: int, participants: list[int]) -> None:
    for index in participants:
        memory.save(index, number, of(number, index))
    memory.commit(participants, number)


def test_participant_state_is_the_one_saved_last(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    assert memory.load(1) == {}
    work(memory, 1, [0, 1])
    work(memory, 2, [1])
    assert memory.load(0)["variate"].tolist() == [1, 0]
    assert memory.load(1)["optimizer"] == {0: {"step": 2}}


def test_participant_state_of_an_unfinished_round_is_ignored(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    work(memory, 1, [0, 1])
    checkpoint = memory.state_dict()
    memory.save(0, 2, of(2, 0))
    # Killed here, with the second round's file of one participant written.
    resumed = ParticipantStates(tmp_path, NAMES, deletes=True)
    resumed.load_state_dict(checkpoint)
    assert [resumed.load(index)["variate"][0].item() for index in (0, 1)] == [1, 1]


def test_participant_state_file_exists_as_long_as_a_checkpoint_refers_to_it(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    presence = [[0, 1], [1, 2], [2], [0], [0, 1, 2], [2], [1]]
    newest: dict[int, int] = {}
    checkpoints: dict[int, tuple[dict[str, Any], dict[int, int]]] = {}
    for number, participants in enumerate(presence, start=1):
        work(memory, number, participants)
        newest |= dict.fromkeys(participants, number)
        if number % 2:  # a checkpoint every two rounds, of which two are kept
            checkpoints[number] = memory.state_dict(), dict(newest)
            checkpoints = dict(list(checkpoints.items())[-2:])
            memory.prune(min(checkpoints))
        for state, expected in checkpoints.values():
            resumed = ParticipantStates(tmp_path, NAMES, deletes=False)
            resumed.load_state_dict(state)
            resumed.check(0, 1)
            assert {index: resumed.load(index)["variate"][0].item() for index in expected} == expected
    needed = {(NAMES[i], n) for _, expected in checkpoints.values() for i, n in expected.items()} | {
        (NAMES[i], n) for i, n in newest.items()
    }
    assert {(path.stem, int(path.parent.name[-4:])) for path in tmp_path.glob("*/*.pt")} == needed
    assert {path.name for path in tmp_path.iterdir()} == {f"round-{number:04d}" for _, number in needed}


def test_participant_state_damage_is_noticed(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    work(memory, 1, [0])
    path = tmp_path / "round-0001" / "a.pt"
    content = path.read_bytes()
    for broken in (content[:-1], content[:100] + b"x" + content[101:], b""):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"a\.pt is (damaged|missing)"):
            memory.load(0)
        # Before anything is trained, in the one of two processes whose share it is.
        with pytest.raises(InputError, match=r"a\.pt is (damaged|missing)"):
            memory.check(0, 2)
        memory.check(1, 2)


def test_participant_state_is_missing_in_another_run_folder(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path / "one", NAMES, deletes=True)
    work(memory, 1, [0, 2])
    other = ParticipantStates(tmp_path / "other", NAMES, deletes=True)
    other.load_state_dict(memory.state_dict())
    with pytest.raises(InputError, match="what 2 participants have kept"):
        other.check(0, 1)


def test_participant_state_sync_waits_for_current_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("aequa_lightning.engine.local.state.sync", lambda path: synced.append(path.name))
    memory = ParticipantStates(tmp_path / "all", NAMES, deletes=True)
    work(memory, 1, [0, 1])
    work(memory, 2, [1, 2])
    assert not synced
    memory.sync()
    assert sorted(synced) == ["a.pt", "all", "b.pt", "c.pt", "round-0001", "round-0002"]
    memory.sync()
    assert len(synced) == 6


def test_participant_state_returns_tensors_of_all_types_bit_by_bit(tmp_path: Path) -> None:
    momentum = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = {0: {"step": torch.tensor(7.0), "exp_avg": momentum}, 1: {"count": torch.tensor(3), "maximum": None}}
    kept = {"optimizer": state, "half": torch.tensor([0.1]).half(), "empty": torch.zeros(0), "variate": None}
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    memory.save(2, 1, kept)
    memory.commit([2], 1)
    torch.testing.assert_close(memory.load(2), kept, rtol=0, atol=0)
    memory.save(0, 1, {"optimizer": None})
    memory.commit([0], 1)
    assert memory.load(0) == {"optimizer": None}


def test_participant_state_of_an_excluded_update_leaves_no_file(tmp_path: Path) -> None:
    memory = ParticipantStates(tmp_path, NAMES, deletes=True)
    work(memory, 1, [0, 1])
    for index in (0, 1):
        memory.save(index, 2, of(2, index))
    memory.commit([1], 2)
    memory.sync()
    assert [memory.load(index)["variate"][0].item() for index in (0, 1)] == [1, 2]
    assert [path.name for path in sorted((tmp_path / "round-0002").iterdir())] == ["b.pt"]


def test_participant_state_superseded_files_are_listed_by_the_deleting_process_only(tmp_path: Path) -> None:
    for deletes, superseded in ((True, [(2, 0, 1)]), (False, [])):
        memory = ParticipantStates(tmp_path, NAMES, deletes=deletes)
        for number in (1, 2):
            work(memory, number, [0])
        assert memory.state_dict() == {"rounds": {0: 2}, "superseded": superseded}
