"""A federation on Flower: the same numbers as the simulator, nothing beyond a width, and nodes that fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from aequa_lightning.errors import InputError, RunFailed
from tests.helpers.command import aequa, events, parameters

pytest.importorskip("flwr", reason="the extra flower is not installed")

from flwr.app import Message, RecordDict

from aequa_lightning.federation import client_app
from aequa_lightning.federation.messages import ROUND, message_content, tensors_of
from aequa_lightning.federation.server import Options, run_federation
from tests.helpers.local_grid import LocalGrid, write_npz

NAMES = ("lyon", "oslo", "rome")
ROUNDS = 3
CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {
        "accelerator": "cpu",
        "max_rounds": ROUNDS,
        "mechanism": {"class_path": "AequaTraining"},
        "report": False,
        "export_programs": False,
    },
    "model": {
        "class_path": "SlimmableClassifier",
        "init_args": {"backbone": "mlp", "backbone_options": {"hidden": [32]}, "widths": [1.0, 0.5, 0.25]},
    },
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the data of a simulation with its partition, and each participant's part into a file of its own."""
    folder = tmp_path_factory.mktemp("federation")
    digits = load_digits()
    images, classes = digits.images.astype(np.uint8), digits.target
    parts = {"train": slice(0, 600), "val": slice(600, 900), "test": slice(900, 1200)}
    arrays = {f"{part}_images": images[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": classes[rows][:, None] for part, rows in parts.items()}
    np.savez(folder / "all.npz", **arrays)
    owner = np.where(np.arange(600) < 60, 2, np.arange(600) % 2)
    rows = "".join(f"{row},{number}\n" for row, number in enumerate(owner))
    (folder / "owner.csv").write_text(f"index,participant\n{rows}")
    for number, name in enumerate(NAMES):
        own = np.flatnonzero(owner == number)
        write_npz(folder / f"{name}.npz", (images[own], classes[own]), (images[1200:1300], classes[1200:1300]))
    config = CONFIG | {"data": {"class_path": "MedMNISTData", "init_args": {"path": str(folder / "all.npz")}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def grid_of(folder: Path) -> LocalGrid:
    nodes = [{"participant": n, "data": str(folder / f"{n}.npz"), "rewards": str(Path(f"rewards-{n}"))} for n in NAMES]
    return LocalGrid(client_app(folder / "config.yaml"), nodes)


def federate(folder: Path, grid: LocalGrid, run_dir: str = "run", **options: Any) -> Path:
    given = {"participants": ",".join(NAMES), "run-dir": run_dir, "standalone": "server", "timeout": 0.2}
    given |= {"join-timeout": 0.1} | {key.replace("_", "-"): value for key, value in options.items()}
    return run_federation(grid, folder / "config.yaml", Options.of(given))


def records(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "messages.jsonl").read_text().splitlines()]


def test_a_federation_computes_what_the_simulator_computes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partition = {"class_path": "FromFile", "init_args": {"path": str(folder / "owner.csv")}}
    data = {"path": str(folder / "all.npz"), "participants": 3, "partition": partition}
    config = CONFIG | {"data": {"class_path": "MedMNISTData", "init_args": data}}
    Path("simulated.yaml").write_text(yaml.safe_dump(config))
    assert aequa("fit", "--config", "simulated.yaml", "--trainer.run_dir", "simulated", "--trainer.devices", "1") == 0
    grid = grid_of(folder)
    run_dir = federate(folder, grid)
    found, expected = parameters(run_dir), parameters(Path("simulated"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    told = [json.loads((path / "allocation.json").read_text()) for path in (run_dir, Path("simulated"))]
    for key in ("accuracy_by_width", "pearson", "mcg", "cgs"):
        assert told[0][key] == told[1][key]
    for one, other in zip(told[0]["participants"], told[1]["participants"], strict=True):
        assert one["name"] in NAMES
        assert {key: one[key] for key in ("contribution", "width", "accuracy")} == {
            key: other[key] for key in ("contribution", "width", "accuracy")
        }
    # Everybody has its reward, and it is the server's, bound to its node.
    for name in NAMES:
        assert Path(f"rewards-{name}/{name}.ckpt").read_bytes() == (run_dir / "rewards" / f"{name}.ckpt").read_bytes()
        assert "node_key" in torch.load(f"rewards-{name}/{name}.ckpt", weights_only=True)["about"]
    # No message to a participant holds an entry outside of its width.
    widths = {(e["round"], p["name"]): p["width"] for e in events(run_dir, "round") for p in e["participants"]}
    assert min(widths.values()) < 1
    rounds = [row for row in records(run_dir) if row["kind"] == ROUND]
    assert {(row["round"], row["participant"]): row["width"] for row in rounds} == widths
    for message, row in zip([m for m in grid.sent if m.metadata.message_type == ROUND], rounds, strict=True):
        assert sum(part.numel() for part in tensors_of(message.content).values()) == row["entries"]
    capsys.readouterr()
    assert aequa("audit", "--run_dir", run_dir) == 0
    assert "9 downloads of the rounds hold exactly their width" in capsys.readouterr().out
    # A line that is left out is missed.
    record = run_dir / "messages.jsonl"
    kept = [line for line in record.read_text().splitlines() if '"round": 2' not in line or '"rome"' not in line]
    record.write_text("\n".join(kept) + "\n")
    with pytest.raises(SystemExit):
        aequa("audit", "--run_dir", run_dir)
    assert "messages.jsonl names no message to rome in round 2" in capsys.readouterr().out


def answer_to(message: Message, settings: dict[str, Any], **content: Any) -> Message:
    return Message(message_content(settings, **content), reply_to=message)


@pytest.mark.filterwarnings("ignore:Round")
def test_nodes_that_fail_are_left_out_and_the_record_says_why(folder: Path) -> None:
    grid = grid_of(folder)

    def fault(message: Message) -> list[Message] | None:
        told = json.loads(str(message.content.config_records["settings"]["json"]))
        node, number = message.metadata.dst_node_id, told.get("round")
        if message.metadata.message_type != ROUND or node == 1:
            return None
        sent = tensors_of(message.content)
        usual = {"loss": 1.0, "seconds": 0.1}
        return {
            (2, 1): [],  # late: no answer in time
            (2, 2): [answer_to(message, usual, tensors={name: one[:1] for name, one in sent.items()})],
            (3, 1): [answer_to(message, usual, tensors={name: one * torch.nan for name, one in sent.items()})],
            (3, 2): [answer_to(message, {"loss": "low", "seconds": 0.1}, tensors=sent)],
            # Twice: the second answer would move the server far away.
            (3, 3): [
                answer_to(message, usual, tensors={name: one * 0 for name, one in sent.items()}),
                answer_to(message, usual, tensors={name: one * 100 for name, one in sent.items()}),
            ],
        }.get((node, number))

    grid.fault = fault
    run_dir = federate(folder, grid, min_participants=1)
    absent = {(e["round"], e["participant"]): e["reason"] for e in events(run_dir, "absent")}
    assert absent[1, "oslo"] == "has not answered in 0.2 s"
    assert "refused: it holds 0.bias" in absent[2, "oslo"] or "of shape" in absent[2, "oslo"]
    assert "its loss is 'low', not a number" in absent[2, "rome"]
    rounds = events(run_dir, "round")
    assert [sorted(p["name"] for p in e["participants"]) for e in rounds] == [["lyon", "rome"], [*NAMES], [*NAMES]]
    assert [e["rejected"] for e in rounds] == [["rome"], ["oslo", "rome"], []]
    assert aequa("audit", "--run_dir", run_dir) == 0


def test_a_node_that_leaves_and_one_that_joins_later(folder: Path) -> None:
    grid = grid_of(folder)
    grid.online = {1, 2}

    def fault(message: Message) -> list[Message] | None:
        told = json.loads(str(message.content.config_records["settings"]["json"]))
        if message.metadata.message_type == ROUND and told["round"] == 2:
            # rome joins after this round, oslo leaves in it.
            grid.online = {1, 3}
        return None

    grid.fault = fault
    run_dir = federate(folder, grid, min_participants=1)
    rounds = events(run_dir, "round")
    assert [sorted(p["name"] for p in e["participants"]) for e in rounds] == [
        ["lyon", "oslo"],
        ["lyon"],
        ["lyon", "rome"],
    ]
    assert [e["participant"] for e in events(run_dir, "join")] == ["rome"]
    assert {e["participant"] for e in events(run_dir, "undelivered")} == {"oslo"}
    assert {e["participant"] for e in events(run_dir, "standalone")} == {*NAMES}
    assert Path("rewards-rome/rome.ckpt").is_file()
    assert aequa("audit", "--run_dir", run_dir) == 0


def test_a_server_that_starts_again_goes_on_as_if_nothing_had_happened(folder: Path) -> None:
    whole = federate(folder, grid_of(folder), "whole")
    grid = grid_of(folder)

    def fault(message: Message) -> list[Message] | None:
        told = json.loads(str(message.content.config_records["settings"]["json"]))
        return [] if message.metadata.message_type == ROUND and told["round"] == 2 else None

    grid.fault = fault
    with pytest.raises(RunFailed, match="round 2: 0 of 3 participants have answered"):
        federate(folder, grid, "again")
    again = federate(folder, grid_of(folder), "again")
    found, expected = parameters(again), parameters(whole)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (again / "rewards" / "lyon.ckpt").read_bytes() == (whole / "rewards" / "lyon.ckpt").read_bytes()
    assert aequa("audit", "--run_dir", again) == 0


def test_a_planted_leak_is_refused_by_its_receiver_and_found_by_the_audit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leaking(settings: dict[str, Any], *, tensors: dict[str, torch.Tensor] | None = None) -> RecordDict:
        """Send eight withheld values to rome in the second round."""
        planted = tensors is not None and settings["index"] == 2 and settings["round"] == 2
        return message_content(settings, tensors=(tensors or {}) | {"more": torch.ones(8)} if planted else tensors)

    monkeypatch.setattr("aequa_lightning.federation.remote_cohort.message_content", leaking)
    run_dir = federate(folder, grid_of(folder), min_participants=1)
    (absent,) = events(run_dir, "absent")
    assert (absent["participant"], absent["round"]) == ("rome", 2)
    assert "it holds more, which is not of the width" in absent["reason"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        aequa("audit", "--run_dir", run_dir)
    said = capsys.readouterr().out
    assert "train.round to rome in round 2 holds 618 entries, its width has 610" in said
    assert "train.round to rome in round 2 holds other values" in said


def test_a_node_without_a_key_is_known_again_by_its_name_and_one_with_another_key_is_not(folder: Path) -> None:
    nodes = [{"participant": name, "data": str(folder / f"{name}.npz")} for name in (*NAMES, "rome")]
    for keys, joined in ((False, ["lyon", "oslo", "rome"]), (True, ["lyon", "oslo"])):
        grid = LocalGrid(client_app(folder / "config.yaml"), nodes)
        grid.keys, grid.online = keys, {1, 2, 3}

        def fault(message: Message, grid: LocalGrid = grid) -> list[Message] | None:
            told = json.loads(str(message.content.config_records["settings"]["json"]))
            if message.metadata.message_type == ROUND and told["round"] == 1:
                # Started again: another node of that name.
                grid.online = {1, 2, 4}
            return None

        grid.fault = fault
        run_dir = federate(folder, grid, f"run-{keys}", min_participants=1)
        last = events(run_dir, "round")[-1]
        assert [p["name"] for p in last["participants"]] == joined


def test_strangers_and_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    grid = LocalGrid(
        client_app(folder / "config.yaml"),
        [{"participant": name, "data": str(folder / "lyon.npz")} for name in ("paris", "lyon", "lyon")],
    )
    with pytest.raises(RunFailed, match=r"lyon of lyon, oslo, rome has joined .*'paris'.*calls itself 'lyon'"):
        federate(folder, grid)
    other = tmp_path / "config.yaml"
    other.write_text((folder / "config.yaml").read_text().replace("seed_everything: 0", "seed_everything: 1"))
    nodes = [{"participant": name, "data": str(folder / f"{name}.npz")} for name in NAMES]
    with pytest.raises(InputError, match="lyon: its model begins with other parameters"):
        federate(folder, LocalGrid(client_app(other), nodes))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("participants", "lyon,lyon", "name each participant once"),
        ("standalone", "somewhere", "choose home or server"),
        ("min-participants", 4, "outside 1 to 3"),
        ("timeout", 0, "above 0"),
    ],
)
def test_options_out_of_range_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Options.of({"participants": ",".join(NAMES), key: value})


def test_what_each_reaches_alone_may_stay_at_home(folder: Path) -> None:
    grid = grid_of(folder)
    run_dir = federate(folder, grid, standalone="home")
    # Nobody has sent a model that it trained alone; the accuracies are of the own held-out parts.
    alone = {e["participant"]: e["validation_accuracy"] for e in events(run_dir, "standalone")}
    assert all(round(100 * accuracy) == pytest.approx(100 * accuracy) for accuracy in alone.values())
    assert alone["rome"] < min(alone["lyon"], alone["oslo"])
