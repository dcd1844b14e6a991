"""Bad input: one message that names value, key and remedy, status 2, and nothing trained or lost."""

import errno
import os
from pathlib import Path

import pytest

from aequa_lightning.run_folder.lock import locked
from tests.helpers.command import DIGITS, TOGETHER, aequa, fit, small


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert aequa(*words) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.max_turns=3", ("max_turns",)),
        ("--trainer.max_rounds=0", ("trainer.max_rounds=0", "at least 1")),
        ("--seed_everything=-1", ("seed_everything=-1", "[0, 2**32)")),
        ("--trainer.standalone_dir=/proc/nowhere", ("trainer.standalone_dir='/proc/nowhere'",)),
        ("--trainer.devices=[0,1]", ("trainer.devices=[0, 1]",)),
        ("--trainer.timeout_minutes=0", ("trainer.timeout_minutes=0", "above 0")),
        ("--model.widths=[1.0,1.5]", ("1.5", "width")),
        ("--model.widths=[1.0,0.0]", ("0.0", "width")),
        ("--model.backbone=resnet19", ("resnet19", "resnet18")),
        ("--model.distillation=2", ("model.distillation=2", "[0, 1]")),
        ("--data.participants=400", ("participant", "participants")),
        ("--data.participants=0", ("participants", "0")),
        ("--trainer.participants_per_round=9", ("trainer.participants_per_round=9", "data.participants=4")),
        ("--trainer.replicas=2", ("trainer.replicas=2", "trainer.devices")),
        ("--trainer.accelerator=cuda", ("trainer.accelerator='cuda'",)),
        ("--trainer.mechanism.resolution=-1", ("resolution",)),
        ("--trainer.correction=Scaffold --trainer.assessment.exclude_flagged=true", ("Scaffold", "exclude_flagged")),
        ("--trainer.standalone=false", ("trainer.standalone=false", "Aequa", "data_share")),
        (
            "--trainer.standalone=false --trainer.mechanism.contribution=cosine "
            "--trainer.mechanism.objective=proportional",
            ("trainer.standalone=false", "individually_rational"),
        ),
        ("--ckpt_path=nowhere.ckpt", ("nowhere.ckpt", "last")),
        ("--trainer.signing_key=nowhere.pem", ("trainer.signing_key='nowhere.pem'",)),
        ("--data=FashionMNISTData", ("FashionMNIST", "dataset-fashion-mnist")),
        ("--data.partition.alpha=-1", ("alpha", "-1")),
        ("--optimizer.lr=-1", ("optimizer", "learning rate: -1")),
        (
            "--lr_scheduler=OneCycleLR --lr_scheduler.max_lr=1 --lr_scheduler.total_steps=1",
            ("OneCycleLR", "max_rounds"),
        ),
        ("--trainer.aggregator=FedAdam --trainer.aggregator.lr=.inf", ("trainer.aggregator.lr=inf",)),
        ("--trainer.timeout_minutes=.inf", ("trainer.timeout_minutes=inf",)),
        ("--trainer.threads=100000", ("trainer.threads=100000",)),
        ("--trainer.mechanism.objective=foo", ("objective='foo'", "proportional")),
        ("--trainer.mechanism.slope=-1", ("slope is -1.0", "auto")),
        ("--trainer.mechanism.slope=.inf", ("trainer.mechanism.slope=inf",)),
        ("--optimizer=SGD --optimizer.lr=.inf", ("optimizer.lr=inf",)),
        ("--optimizer=Adam --optimizer.weight_decay=.nan", ("optimizer.weight_decay=nan",)),
        ("--lr_scheduler=ExponentialLR --lr_scheduler.gamma=.nan", ("lr_scheduler.gamma=nan",)),
        ("--lr_scheduler=ExponentialLR --lr_scheduler.gamma=1e300", ("in round 2", "stay finite")),
        ("--trainer.max_rounds=99999999999999999999", ("trainer.max_rounds=99999999999999999999", "at most")),
        ("--data.participants=1000000000", ("data.participants is 1000000000", "at most")),
        ("--data.participants=1000", ("data.participants is 1000", "samples")),
        ("--trainer.signing_key=#key.pem", ("trainer.signing_key='#key.pem'",)),
        ("--trainer.signing_key=null", ("--trainer.signing_key=null names no file",)),
    ],
)
def test_is_refused_with_a_reason(
    capsys: pytest.CaptureFixture[str], option: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    if "Fashion" in option:
        option += f" --data.root={tmp_path}"
    message = _refused(capsys, *small(Path("run")), *option.split())
    for word in words:
        assert word in message
    assert not Path("run/events.jsonl").exists()


@pytest.mark.parametrize("name", ["7e12345", "007", "null", "0x1F"])
def test_a_folder_whose_name_reads_as_a_number(name: str) -> None:
    fit(Path(name), *TOGETHER, rounds=1)
    config = f"{name}/config.yaml"
    assert aequa("test", "--config", config, "--ckpt_path", "last") == 0
    assert aequa("fit", "--config", config, "--ckpt_path", "last") == 0
    assert aequa("allocate", "--run_dir", name) == 0
    assert aequa("audit", "--run_dir", name) == 0


@pytest.mark.parametrize("key", ["null", "~", "#key.pub", ""])
def test_an_audit_goes_by_the_key_that_was_given(capsys: pytest.CaptureFixture[str], key: str) -> None:
    run_dir = fit(Path("run"), *TOGETHER, rounds=1)
    assert "public_key" in _refused(capsys, "audit", "--run_dir", run_dir, "--public_key", key)


def test_a_layer_that_cannot_follow_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mynet.py").write_text(
        "from torch import nn\n"
        "class Fixed(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.first, self.last = nn.Linear(64, 32), nn.Linear(8, classes)\n"
        "    def forward(self, x):\n"
        "        return self.last(self.first(x.flatten(1)).view(len(x), 4, 8).sum(1))\n"
        "def build(num_classes, input_shape):\n"
        "    return Fixed(num_classes)\n"
    )
    monkeypatch.syspath_prepend(".")
    message = _refused(capsys, *small(Path("run")), "--model.backbone=mynet:build", "--model.backbone_options=null")
    assert "width" in message
    assert "first" in message or "last" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "trainer.run_dir" in _refused(capsys, *small(Path("locked/run")))


@pytest.mark.parametrize("verb", ["audit", "allocate"])
def test_a_folder_that_may_only_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    run_dir = fit(Path("run"), *TOGETHER, rounds=1)

    def refuse(path: Path, content: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("aequa_lightning.commands.audit.write_json", refuse)
    monkeypatch.setattr("aequa_lightning.trainer.trainer.locked", lambda folder: refuse(folder / "lock", None))
    message = _refused(capsys, verb, "--run_dir", run_dir)
    assert "Read-only file system. Choose another place" in message


def test_a_file_in_the_place_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    assert "trainer.run_dir='taken/run'" in _refused(capsys, *small(Path("taken/run")))
    assert Path("taken").read_text() == "mine"


def test_a_finished_run_is_not_overwritten_and_a_torn_checkpoint_is_no_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = fit(Path("run"), *TOGETHER, rounds=1)
    record = (run_dir / "events.jsonl").read_bytes()
    assert "--ckpt_path last" in _refused(capsys, *small(run_dir), *TOGETHER)
    torn = Path("torn.ckpt")
    torn.write_bytes((run_dir / "checkpoints" / "last.ckpt").read_bytes()[:1000])
    assert "truncated" in _refused(capsys, *small(Path("other")), *TOGETHER, f"--ckpt_path={torn}")
    whole = f"--ckpt_path={run_dir}/checkpoints/last.ckpt"
    assert "participants" in _refused(capsys, *small(Path("other"), participants=3), *TOGETHER, whole)
    assert "does not fit the model" in _refused(capsys, *small(Path("other")), whole)
    for option, words in {
        "--seed_everything=5": ("seed_everything 0", "now it is 5"),
        "--trainer.mechanism=IAFL": ("parts of the shared model, now it is models",),
        "--lr_scheduler=StepLR --lr_scheduler.step_size=1": ("lr_scheduler ExponentialLR, now it is StepLR",),
    }.items():
        message = _refused(capsys, *small(Path("other")), *TOGETHER, whole, *option.split())
        assert [word for word in words if word not in message] == [], message
    assert (run_dir / "events.jsonl").read_bytes() == record
    assert not Path("other/events.jsonl").exists()


def test_a_folder_that_another_command_is_using(capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fit(Path("run"), *TOGETHER, rounds=1)
    content = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}
    with locked(run_dir):
        for words in (
            [*small(run_dir, rounds=2), *TOGETHER, "--ckpt_path=last"],
            ["allocate", f"--run_dir={run_dir}"],
        ):
            assert f"trainer.run_dir='run' is in use by process {os.getpid()}" in _refused(capsys, *words)
        # Whoever only looks at it may.
        assert aequa("audit", "--run_dir", run_dir) == 0
    assert {path: path.read_bytes() for path in content} == content
    assert aequa("allocate", "--run_dir", run_dir) == 0


def test_a_missing_configuration_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml" in _refused(capsys, "fit", "--config", "nowhere.yaml")


def test_test_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ckpt_path" in _refused(capsys, "test", "--config", DIGITS)


def test_a_folder_without_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for verb in ("allocate", "report"):
        assert str(tmp_path) in _refused(capsys, verb, "--run_dir", tmp_path)
