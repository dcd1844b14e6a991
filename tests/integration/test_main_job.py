"""`aequa fit` from nothing to reward files, read the way their owners would."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.modules import RewardClassifier
from aequa_lightning.run_folder.csv_files import read_csv
from tests.helpers.command import aequa, events, fit, parameters

PARTICIPANTS = [f"participant-{number:02d}" for number in range(4)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("--trainer.mechanism.resolution=0.02", "--trainer.report=true", "--trainer.export_programs=true")
    return fit(tmp_path_factory.mktemp("main") / "run", *options, devices=2, rounds=6)


@pytest.fixture(scope="module")
def data() -> DigitsData:
    return DigitsData(participants=4, partition=Dirichlet(1.0), batch_size=32, train_samples=500)


def _manifest(run_dir: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    return rows


def test_the_run_folder_is_complete(run_dir: Path) -> None:
    expected = {
        *("config.yaml", "events.jsonl", "metrics.csv", "contributions.csv", "allocation.json", "report.html"),
        *("checkpoints/last.ckpt", "checkpoints/round-0006.ckpt", "rewards/manifest.json"),
        *(f"rewards/{name}.{ending}" for name in PARTICIPANTS for ending in ("ckpt", "pt2")),
    }
    present = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}
    assert expected <= present
    assert any(name.startswith("figures/") and name.endswith(".pdf") for name in present)
    assert not [name for name in present if name.endswith(".tmp")]


def test_metrics_and_contributions_have_a_row_each(run_dir: Path) -> None:
    with (run_dir / "metrics.csv").open() as file:
        assert [row["round"] for row in csv.DictReader(file)] == list("123456")
    with (run_dir / "contributions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["participant", "samples", "standalone", "data_share", "cosine", "gates"]
    assert [row["participant"] for row in rows] == PARTICIPANTS
    assert sum(float(row["cosine"]) for row in rows) == pytest.approx(1)


def test_the_allocation_adds_up(run_dir: Path) -> None:
    content = json.loads((run_dir / "allocation.json").read_text())
    people = content["participants"]
    contributions = [person["contribution"] for person in people]
    received = [person["accuracy"] for person in people]
    gains = np.subtract(received, contributions)
    assert content["mcg"] == pytest.approx(gains.mean())
    assert content["cgs"] == pytest.approx(gains.std())
    assert content["pearson"] == pytest.approx(stats.pearsonr(contributions, received).statistic)
    for person in people:
        assert person["accuracy"] == content["accuracy_by_width"][repr(person["width"])]
    top = max(people, key=lambda person: person["contribution"])
    assert top["width"] == 1.0
    # Who contributed more never receives less.
    assert all(np.diff(np.array(received)[np.argsort(contributions, kind="stable")]) >= 0)


def test_a_reward_needs_only_torch_and_its_program_agrees(run_dir: Path, data: DigitsData) -> None:
    """The owner's script sees neither this project nor torchvision nor lightning."""
    torch.save(data.test().tensors[0], "inputs.pt")
    owner = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("aequa_lightning", "torchvision", "lightning", "torchmetrics"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import torch
folder, *names = sys.argv[1:]
inputs = torch.load("inputs.pt")
for name in names:
    checkpoint = torch.load(f"{folder}/{name}.ckpt", weights_only=True)
    program = torch.export.load(f"{folder}/{name}.pt2").module()
    with torch.no_grad():
        torch.save((checkpoint["hyper_parameters"]["width"], program(inputs).argmax(-1)), f"{name}.pt")
"""
    rows = _manifest(run_dir)[:2]
    words = [sys.executable, "-c", owner, str(run_dir / "rewards"), *(row["participant"] for row in rows)]
    subprocess.run(words, check=True, capture_output=True)
    for row in rows:
        width, predictions = torch.load(f"{row['participant']}.pt", weights_only=True)
        assert width == row["width"]
        reward = _reward(run_dir / "rewards" / row["file"])
        with torch.no_grad():
            assert torch.equal(predictions, reward(data.test().tensors[0]).argmax(-1))


def _reward(path: Path) -> RewardClassifier:
    reward: RewardClassifier = RewardClassifier.load_from_checkpoint(path, weights_only=True)
    return reward.eval()


def test_rewards_are_narrow_and_small(run_dir: Path) -> None:
    rows = sorted(_manifest(run_dir), key=lambda row: row["width"])
    assert len({row["width"] for row in rows}) > 1, "the run is too fair to tell"
    sizes = {row["width"]: row["bytes"] for row in rows}
    assert list(sizes.values()) == sorted(sizes.values())
    for row in rows:
        checkpoint = torch.load(run_dir / "rewards" / row["file"], weights_only=True)
        tensors = checkpoint["state_dict"].values()
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
        assert not {"optimizer_states", "lr_schedulers", "callbacks"} & checkpoint.keys()


def test_no_withheld_weight_is_in_a_narrow_file(run_dir: Path) -> None:
    row = min(_manifest(run_dir), key=lambda row: row["width"])
    full = parameters(run_dir)["network.full.8.weight"]  # the widest convolution
    kept = torch.load(run_dir / "rewards" / row["file"], weights_only=True)["state_dict"]["network.8.weight"]
    assert torch.equal(full[: kept.shape[0], : kept.shape[1]], kept)
    withheld = full[kept.shape[0] :].flatten()[:200]
    for ending in ("ckpt", "pt2"):
        content = (run_dir / "rewards" / f"{row['participant']}.{ending}").read_bytes()
        assert kept.flatten()[:4].numpy().tobytes() in content
        assert not any(value.numpy().tobytes() in content for value in withheld.split(2))


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_a_reward_reproduces_the_manifest_to_the_last_digit(
    run_dir: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = {"test": "test_accuracy", "validate": "validation_accuracy"}[verb]
    for row in _manifest(run_dir):
        words = (verb, "--config", run_dir / "config.yaml", "--ckpt_path", run_dir / "rewards" / row["file"])
        assert aequa(*words) == 0
        assert repr(row[key]) in capsys.readouterr().out


def test_the_shared_model_is_tested_at_every_width(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("test", "--config", run_dir / "config.yaml", "--ckpt_path", "last") == 0
    output = capsys.readouterr().out
    assert all(f"test_accuracy/{width}" in output for width in ("1", "0.5", "0.25"))
    full = next(row for row in _manifest(run_dir) if row["width"] == 1.0)
    assert repr(full["test_accuracy"]) in output


def test_predictions_are_those_of_the_reward(run_dir: Path, data: DigitsData) -> None:
    row = _manifest(run_dir)[0]
    words = ("predict", "--config", run_dir / "config.yaml", "--ckpt_path", run_dir / "rewards" / row["file"])
    assert aequa(*words, "--trainer.run_dir", "elsewhere") == 0
    with Path("elsewhere/predictions/participant-00.csv").open() as file:
        predicted = [int(line["prediction"]) for line in csv.DictReader(file)]
    accuracy = np.mean(np.array(predicted) == data.test().tensors[1].numpy())
    assert accuracy == row["test_accuracy"]


def test_a_changed_reward_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_dir / "rewards", "rewards")
    path = Path("rewards/participant-00.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values()))[0] += 1
    torch.save(checkpoint, path)
    assert aequa("test", "--config", run_dir / "config.yaml", "--ckpt_path", path) == 2
    assert "SHA-256 differs" in capsys.readouterr().err


def test_a_signed_manifest_is_verified_and_no_other_is_accepted(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography", reason="needs the extra 'signing'")
    openssl("genpkey", "-algorithm", "ed25519", "-out", "private.pem")
    openssl("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
    signed = copied(run_dir, "signed", signing_key="private.pem")
    with_key = ("--public_key", "public.pem")
    reward = (
        "test",
        "--config",
        run_dir / "config.yaml",
        "--ckpt_path",
        "signed/rewards/participant-00.ckpt",
        *with_key,
    )
    for words in (("audit", "--run_dir", "signed", *with_key), reward):
        assert aequa(*words) == 2
        assert "manifest.json is not signed" in capsys.readouterr().err
    assert aequa("allocate", "--run_dir", signed) == 0
    # The owner's own tools agree.
    signature = ("-sigfile", "signed/rewards/manifest.sig", "-in", "signed/rewards/manifest.json")
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", *signature)
    assert aequa("audit", "--run_dir", "signed", *with_key) == 0
    assert json.loads(Path("signed/audit.json").read_text())["signature"] == "verified"
    assert aequa(*reward) == 0
    capsys.readouterr()
    manifest = Path("signed/rewards/manifest.json")
    manifest.write_text(manifest.read_text().replace('"width"', '"Width"', 1))
    assert aequa(*reward) == 2
    assert "manifest.sig is no signature of manifest.json" in capsys.readouterr().err


def copied(run_dir: Path, name: str, **options: object) -> Path:
    """Copy a run, whose page and programs are not to be made again, and change options of its trainer."""
    folder = Path(shutil.copytree(run_dir, name))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"] |= {"report": False, "export_programs": False} | options
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def test_allocating_again_gives_the_same_and_another_objective_another(run_dir: Path) -> None:
    copied(run_dir, "again")
    before = json.loads(Path("again/allocation.json").read_text())
    hashes = [row["sha256"] for row in _manifest(Path("again"))]
    assert aequa("allocate", "--run_dir", "again", "--price", "10") == 0
    assert json.loads(Path("again/allocation.json").read_text()) == before
    amounts = [float(row["transfer"]) for row in read_csv(Path("again/transfers.csv"))]
    assert any(amounts)
    assert sum(amounts) == pytest.approx(0, abs=1e-9)
    assert [row["sha256"] for row in _manifest(Path("again"))] == hashes
    assert aequa("allocate", "--run_dir", "again", "--slope", "0") == 0
    # Payments of an earlier allocation do not fit this one.
    assert not Path("again/transfers.csv").exists()
    after = json.loads(Path("again/allocation.json").read_text())
    assert after["slope"] == 0
    assert after["accuracy_by_width"] == before["accuracy_by_width"]


def test_torn_files_are_named_with_the_remedy(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = copied(run_dir, "torn")
    for verb, file in (("allocate", "allocation.json"), ("audit", "rewards/manifest.json")):
        whole = (torn / file).read_bytes()
        (torn / file).write_bytes(whole[: len(whole) // 2])
        assert aequa(verb, "--run_dir", torn) == 2
        assert f"aequa: error: torn/{file} cannot be read" in capsys.readouterr().err
        (torn / file).write_bytes(whole)


def test_the_saved_configuration_repeats_the_run(run_dir: Path) -> None:
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["ckpt_path"] is None
    bare = ("--trainer.report=false", "--trainer.export_programs=false")
    assert aequa("fit", "--config", run_dir / "config.yaml", "--trainer.run_dir", "repeated", *bare) == 0
    assert (Path("repeated/allocation.json")).read_text() == (run_dir / "allocation.json").read_text()


def test_the_report_is_built_again_without_torch_where_it_is_asked_for(run_dir: Path) -> None:
    code = (
        "import sys; from aequa_lightning.__main__ import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    words = ("report", "--run_dir", str(run_dir), "--output", "pages/mine.html")
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "pages/mine.html"
    assert "participant-00" in Path("pages/mine.html").read_text()


def test_the_audit_finds_the_files_sound_and_every_tampering(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("audit", "--run_dir", run_dir) == 0
    count = 3 * len(_manifest(run_dir))  # checkpoint, program and card
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"sound: {count} of {count} reward files")
    report = json.loads((run_dir / "audit.json").read_text())
    assert report["sound"]
    # Sub-networks are nested: together participants hold the widest of them and no more.
    assert report["coalition"]["rebuilds"] == report["coalition"]["widest_reward"]
    assert all(row["held_in_rounds"] == 1.0 for row in report["rewards"])

    shutil.copytree(run_dir, "tampered")
    narrow = min(_manifest(run_dir), key=lambda row: row["width"])
    path = Path("tampered/rewards") / narrow["file"]
    original = torch.load(path, weights_only=True)
    full = parameters(run_dir)

    def found(content: dict[str, Any]) -> str:
        torch.save(content, path)
        with pytest.raises(SystemExit) as exit:
            aequa("audit", "--run_dir", "tampered")
        assert exit.value.code == 1
        (row,) = (row for row in json.loads(Path("tampered/audit.json").read_text())["rewards"] if row["faults"])
        assert row["participant"] == narrow["participant"]
        return " ".join(row["faults"])

    assert "SHA-256" in found(original | {"epoch": 1})
    assert "optimizer_states" in found(original | {"optimizer_states": []})
    assert "withheld" in found(original | {"about": {"hidden": full["network.full.8.weight"].clone()}})
    state = dict(original["state_dict"])
    name = "network.8.weight"
    kept = state[name]
    view = full["network.full.8.weight"][: kept.shape[0], : kept.shape[1]]
    faults = found(original | {"state_dict": state | {name: view}})
    assert "withheld" in faults
    assert f"more behind state_dict.{name}" in faults
    assert "another state_dict.network.8.weight" in found(original | {"state_dict": state | {name: kept + 1}})
    del state[name]
    assert "lacks 'state_dict.network.8.weight'" in found(original | {"state_dict": state})


@pytest.mark.parametrize("tampered", ["slope", "curve"])
def test_certificate_that_does_not_hold_is_found_by_audit_and_refused_by_allocate(
    run_dir: Path, tampered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(run_dir, tampered)
    content = json.loads((folder / "allocation.json").read_text())
    if tampered == "slope":
        content["slope"] = 0.0
    else:
        held = min(content["participants"], key=lambda person: person["width"])["width"]
        content["accuracy_by_width"][repr(held)] -= 0.01
    (folder / "allocation.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as exit:
        aequa("audit", "--run_dir", folder)
    assert exit.value.code == 1
    (fault,) = (one for one in json.loads((folder / "audit.json").read_text())["faults"] if "certificate" in one)
    assert fault.startswith("allocation.json certificate: ")
    capsys.readouterr()
    assert aequa("allocate", "--run_dir", folder) == 2
    assert "allocation.json certificate: " in capsys.readouterr().err


def test_the_shared_model_predicts_as_well_as_it_tests(run_dir: Path, data: DigitsData) -> None:
    assert (
        aequa("predict", "--config", run_dir / "config.yaml", "--ckpt_path", "last", "--trainer.run_dir", run_dir) == 0
    )
    with (run_dir / "predictions" / "last.csv").open() as file:
        predicted = [int(line["prediction"]) for line in csv.DictReader(file)]
    full = next(row for row in _manifest(run_dir) if row["width"] == 1.0)
    assert np.mean(np.array(predicted) == data.test().tensors[1].numpy()) == full["test_accuracy"]


def test_the_files_agree_on_what_was_reached_alone_and_received(run_dir: Path, data: DigitsData) -> None:
    people = json.loads((run_dir / "allocation.json").read_text())["participants"]
    alone = {event["participant"]: event for event in events(run_dir, "standalone")}
    with (run_dir / "contributions.csv").open() as file:
        contributions = {row["participant"]: row for row in csv.DictReader(file)}
    for person, row in zip(people, _manifest(run_dir), strict=True):
        own = alone[person["name"]]
        assert own["validation_accuracy"] != own["test_accuracy"]
        assert person["standalone_test"] == own["test_accuracy"]
        assert person["contribution"] == own["validation_accuracy"]
        assert float(contributions[person["name"]]["standalone"]) == own["validation_accuracy"]
        assert (person["accuracy"], person["test_accuracy"]) == (row["validation_accuracy"], row["test_accuracy"])


def test_a_reward_says_whose_it_is_and_how_inputs_were_scaled(run_dir: Path, data: DigitsData) -> None:
    data.setup("fit")
    for row in _manifest(run_dir):
        about = torch.load(run_dir / "rewards" / row["file"], weights_only=True)["about"]
        assert about == {"participant": row["participant"], "mean": data.mean, "std": data.std}
    assert data.mean != data.std


def test_every_width_of_the_shared_model_is_measured_as_in_the_last_round(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aequa("validate", "--config", run_dir / "config.yaml", "--ckpt_path", "last") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    told = {row[1].removeprefix("validation_accuracy/"): row[3] for row in rows if len(row) == 5}
    last = events(run_dir, "round")[-1]["validation_accuracy"]
    assert {width: float(told[width]) for width in last} == last
    assert len(set(last.values())) == 3


def test_predictions_are_numbered_from_zero_with_their_probabilities(run_dir: Path, data: DigitsData) -> None:
    path = run_dir / "rewards" / _manifest(run_dir)[1]["file"]
    words = ("predict", "--config", run_dir / "config.yaml", "--ckpt_path", path)
    assert aequa(*words, "--trainer.run_dir", "elsewhere") == 0
    with Path("elsewhere/predictions/participant-01.csv").open() as file:
        rows = list(csv.DictReader(file))
    with torch.no_grad():
        logits = _reward(path)(data.test().tensors[0]).double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [int(row["sample"]) for row in rows] == list(range(len(logits)))
    assert [int(row["prediction"]) for row in rows] == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], shares.max(axis=1), rtol=1e-5)


def test_a_key_is_asked_of_rewards_alone_and_by_every_verb(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography", reason="needs the extra 'signing'")
    reward = ("--ckpt_path", run_dir / "rewards" / "participant-00.ckpt", "--public_key", "nowhere.pem")
    for verb in ("validate", "test", "predict"):
        assert aequa(verb, "--config", run_dir / "config.yaml", *reward, "--trainer.run_dir", "elsewhere") == 2
        assert "public_key='nowhere.pem'" in capsys.readouterr().err
    assert not Path("elsewhere/predictions").exists()
    shared = ("--ckpt_path", "last", "--public_key", "nowhere.pem")
    assert aequa("test", "--config", run_dir / "config.yaml", *shared) == 2
    assert "public_key verifies rewards, but ckpt_path='last' is none" in capsys.readouterr().err


def test_a_key_that_cannot_sign_is_refused_before_rewards_are_written_again(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(run_dir, "unsigned", signing_key="nowhere.pem")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert aequa("allocate", "--run_dir", folder, "--slope", "0") == 2
    assert "trainer.signing_key='nowhere.pem'" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_without_a_finished_run_is_not_allocated(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, missing in (("unfinished", "allocation.json"), ("emptied", "checkpoints")):
        folder = copied(run_dir, name)
        path = folder / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert aequa("allocate", "--run_dir", folder) == 2
        assert f"run_dir='{name}' holds no finished run" in capsys.readouterr().err


def test_a_configuration_of_another_run_is_not_allocated(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(run_dir, "other")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["init_args"]["participants"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert aequa("allocate", "--run_dir", folder) == 2
    assert "saved with 4 participants, but data.participants=3" in capsys.readouterr().err


def test_a_finished_run_is_looked_after_on_one_process_wherever_it_was_trained(run_dir: Path) -> None:
    folder = copied(run_dir, "cluster", num_nodes=2, replicas=2, devices=4, timeout_minutes=0.2)
    assert aequa("allocate", "--run_dir", folder) == 0
    assert json.loads((folder / "allocation.json").read_text()) == json.loads((run_dir / "allocation.json").read_text())


def test_a_reward_is_not_used_on_inputs_of_another_shape(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wide.py").write_text(
        "from aequa_lightning.data import DigitsData\nclass WideData(DigitsData):\n    input_shape = (1, 16, 4)\n"
    )
    monkeypatch.syspath_prepend(".")
    words = ("test", "--config", run_dir / "config.yaml", "--data.class_path", "wide.WideData")
    assert aequa(*words, "--ckpt_path", run_dir / "rewards" / "participant-00.ckpt") == 2
    assert "takes inputs of shape [1, 8, 8], but data gives [1, 16, 4]" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_or_none_at_all_is_not_tested(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run_dir / "checkpoints" / "last.ckpt"
    other = ("--model.backbone=mlp", "--model.backbone_options={hidden: [16]}")
    assert aequa("test", "--config", run_dir / "config.yaml", "--ckpt_path", last, *other) == 2
    assert "does not fit the model" in capsys.readouterr().err
    words = ("--ckpt_path", "last", "--trainer.run_dir", "empty")
    assert aequa("test", "--config", run_dir / "config.yaml", *words) == 2
    assert "ckpt_path='last': there is no checkpoint in empty/checkpoints" in capsys.readouterr().err
