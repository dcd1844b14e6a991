"""Training-time rewards where not everybody takes part in every round."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aequa_lightning.mechanisms.aequa_training import earned_widths
from tests.helpers.command import aequa, events, fit, largest_difference, parameters

pytestmark = pytest.mark.distributed

ROUNDS, SLOPE = 5, 3.0
WORDS = (
    "--trainer.mechanism=AequaTraining",
    f"--trainer.mechanism.slope={SLOPE}",
    "--trainer.mechanism.resolution=1.0",
    "--trainer.mechanism.teacher=3",
    "--model.logit_adjustment=1.0",
    "--trainer.mechanism.individually_rational=false",
    "--trainer.participants_per_round=2",
    f"--trainer.keep_checkpoints={ROUNDS}",
    "--trainer.record_downloads=true",
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("training-time") / "run", *WORDS, devices=2, rounds=ROUNDS)


def held_after(run_dir: Path, number: int) -> list[float]:
    path = run_dir / "checkpoints" / f"round-{number:04d}.ckpt"
    held: list[float] = torch.load(path, weights_only=True)["widths"]
    return held


def test_who_takes_part_receives_what_it_has_earned_and_who_is_absent_keeps_what_it_holds(run_dir: Path) -> None:
    people = json.loads((run_dir / "allocation.json").read_text())["participants"]
    names, standalone = [row["name"] for row in people], [row["contribution"] for row in people]
    before, curve, kept = [1.0] * 4, {}, 0
    for event in events(run_dir, "round"):
        earned = [1.0] * 4
        if curve:
            earned, _ = earned_widths(standalone, curve, slope=SLOPE, standalone=standalone)
        present = {row["name"]: row["width"] for row in event["participants"]}
        after = held_after(run_dir, event["round"])
        for index, name in enumerate(names):
            assert after[index] == (earned[index] if name in present else before[index])
            assert present.get(name, after[index]) == after[index]
            # Whoever is away while others are given something else.
            kept += name not in present and earned[index] != before[index]
        before, curve = after, {float(width): value for width, value in event["validation_accuracy"].items()}
    assert kept
    assert min(before) < 1.0
    top = standalone.index(max(standalone))
    assert all(held_after(run_dir, number)[top] == 1.0 for number in range(1, ROUNDS + 1))


def test_fewer_bytes_are_sent_where_less_is_held(run_dir: Path) -> None:
    first, *_, last = events(run_dir, "round")
    assert len(first["participants"]) == len(last["participants"])
    assert last["bytes_sent"] < first["bytes_sent"]


def test_the_reward_is_what_everybody_receives_after_the_last_round(run_dir: Path) -> None:
    allocation = json.loads((run_dir / "allocation.json").read_text())
    curve = {float(width): accuracy for width, accuracy in allocation["accuracy_by_width"].items()}
    contributions = [row["contribution"] for row in allocation["participants"]]
    earned, _ = earned_widths(contributions, curve, slope=SLOPE, standalone=contributions)
    manifest = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    assert [row["width"] for row in manifest] == earned


def test_one_process_goes_on_from_any_round_of_two_to_the_same_bits(run_dir: Path, tmp_path: Path) -> None:
    resumed = tmp_path / "run"
    shutil.copytree(run_dir, resumed)
    (resumed / "allocation.json").unlink()
    fit(resumed, *WORDS, f"--ckpt_path={resumed}/checkpoints/round-0002.ckpt", devices=1, rounds=ROUNDS)
    assert len(events(resumed, "round")) == ROUNDS + 3
    assert largest_difference(resumed, run_dir) == 0
    assert held_after(resumed, ROUNDS) == held_after(run_dir, ROUNDS)
    assert (resumed / "allocation.json").read_text() == (run_dir / "allocation.json").read_text()


def test_what_was_received_is_audited_round_by_round(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    assert aequa("audit", "--run_dir", tmp_path / "run") == 0
    # All rounds but the first started from a checkpoint that is kept; in the first one is compared with the other.
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert found["downloads"] == {"files": 2 * ROUNDS, "compared": 2 * ROUNDS - 1, "faults": []}
    received = [
        (row["width"], tmp_path / "run" / "downloads" / f"round-{event['round']:04d}" / f"{row['name']}.safetensors")
        for event in events(run_dir, "round")
        for row in event["participants"]
    ]
    sizes = {width: sum(value.numel() for value in load_file(path).values()) for width, path in received}
    assert [sizes[width] for width in sorted(sizes)] == sorted(sizes.values())
    (_, narrowest), (_, widest) = min(received), max(received)
    narrowest.write_bytes(widest.read_bytes())
    with pytest.raises(SystemExit):
        aequa("audit", "--run_dir", tmp_path / "run")
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert not found["sound"]
    assert any("is not of its width" in fault for fault in found["downloads"]["faults"])


# From the fourth round on rates are far too high, so that the best round is not the last.
DECLINING = (
    *WORDS,
    "--trainer.mechanism.contribution=cosine",
    "--lr_scheduler=MultiStepLR",
    "--lr_scheduler.milestones=[3]",
    "--lr_scheduler.gamma=100",
)


@pytest.fixture(scope="module")
def declining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("declining") / "run", *DECLINING, rounds=ROUNDS)


def test_the_model_that_is_paid_with_is_that_of_the_best_round(
    declining: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = [event["validation_accuracy"]["1"] for event in events(declining, "round")]
    (best,) = events(declining, "best_round")
    assert best["round"] < 4
    assert reached[best["round"] - 1] == max(reached) == best["validation_accuracy"]
    then = parameters(declining, best["round"])
    for row in json.loads((declining / "rewards" / "manifest.json").read_text())["rewards"]:
        reward = torch.load(declining / "rewards" / row["file"], weights_only=True)["state_dict"]
        for name, value in reward.items():
            whole = then.get(name.replace("network.", "network.full."))
            assert whole is None or torch.equal(value, whole[tuple(map(slice, value.shape))])
    assert aequa("audit", "--run_dir", declining) == 0
    assert aequa("allocate", "--run_dir", declining) == 0
    assert aequa("audit", "--run_dir", declining) == 0
    capsys.readouterr()
    assert aequa("validate", f"--config={declining / 'config.yaml'}", "--ckpt_path=last") == 0
    assert repr(max(reached)) in capsys.readouterr().out


def test_a_prolonged_run_trains_on_from_its_last_round_not_from_its_best(declining: Path, tmp_path: Path) -> None:
    prolonged = fit(tmp_path / "run", *DECLINING, rounds=ROUNDS - 1)
    (best,) = events(prolonged, "best_round")
    assert best["round"] < ROUNDS - 1
    fit(prolonged, *DECLINING, "--ckpt_path=last", rounds=ROUNDS)
    assert largest_difference(prolonged, declining) == 0
    assert events(prolonged, "best_round")[-1]["round"] == best["round"]


def test_downloads_of_a_course_that_was_left_are_not_vouched_for(run_dir: Path, tmp_path: Path) -> None:
    left = tmp_path / "run"
    shutil.copytree(run_dir, left)
    fit(left, *WORDS, f"--ckpt_path={left}/checkpoints/round-0002.ckpt", devices=1, rounds=3)
    assert (left / "downloads" / "round-0005").is_dir()
    downloads = json.loads((left / "rewards" / "manifest.json").read_text())["downloads"]
    assert {name.split("/")[0] for name in downloads} == {f"round-000{number}" for number in (1, 2, 3)}
    assert aequa("audit", "--run_dir", left) == 0
    assert json.loads((left / "audit.json").read_text())["downloads"]["files"] == 6
