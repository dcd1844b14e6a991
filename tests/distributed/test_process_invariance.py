"""The number of processes is a matter of speed, never of result."""

import csv
import functools
import json
import multiprocessing
import socket
from pathlib import Path

import pytest
from torch.distributed import run as launcher

from aequa_lightning import __main__
from aequa_lightning.engine.server.privacy import spent_epsilon
from tests.helpers.command import TOGETHER, events, fit, largest_difference, small
from tests.helpers.faults import Fault, die, run_command

pytestmark = pytest.mark.distributed


def test_one_two_three_and_four_processes_give_the_same_bits(tmp_path: Path) -> None:
    runs = [fit(tmp_path / f"on-{devices}", devices=devices, rounds=3) for devices in (1, 2, 3, 4)]
    for run in runs[1:]:
        assert largest_difference(runs[0], run) == 0
        for name in ("allocation.json", "contributions.csv"):
            assert (run / name).read_text() == (runs[0] / name).read_text()
    manifests = [json.loads((run / "rewards" / "manifest.json").read_text())["rewards"] for run in runs]
    for manifest in manifests[1:]:
        assert [row["sha256"] for row in manifest] == [row["sha256"] for row in manifests[0]]


def _torchrun(words: list[str], fault: Fault | None = None) -> tuple[int, str]:
    """Let torchrun start two processes; return its exit status and what all of them wrote to standard error."""
    # Forked, for fresh processes would import everything again.
    options = ["--standalone", "--nproc-per-node=2", "--start-method=fork", "--run-path", __main__.__file__]

    def command() -> int:
        launcher.main([*options, *words])
        return 0

    return run_command(fault, command)


def test_processes_that_torchrun_starts_are_a_run(tmp_path: Path) -> None:
    assert _torchrun(small(tmp_path / "torchrun", devices=2, rounds=1))[0] == 0
    assert events(tmp_path / "torchrun", "start")[0]["processes"] == 2
    forked = fit(tmp_path / "forked", rounds=1)
    assert largest_difference(tmp_path / "torchrun", forked) == 0


def test_bad_input_is_told_by_one_of_the_processes_that_torchrun_started(tmp_path: Path) -> None:
    status, errors = _torchrun(small(tmp_path / "run", devices=3))
    assert status != 0
    assert errors.count("aequa: error: trainer.devices=3 x trainer.num_nodes=1 is 3") == 1


def test_the_death_of_a_process_that_torchrun_started_is_told(tmp_path: Path) -> None:
    fault = Fault(die, "training", 1, 2, served=True)
    status, errors = _torchrun(small(tmp_path / "run", devices=2), fault)
    assert status != 0
    (message,) = (line for line in errors.splitlines() if "aequa: error: " in line)
    assert "rank 0 lost contact with rank 1 in round 2" in message


def test_two_machines_are_a_run(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*small(tmp_path / "two", rounds=1), "--trainer.num_nodes=2"]

    def machine(rank: int) -> int:
        meeting = ["--master-addr=127.0.0.1", f"--master-port={port}", "--nnodes=2", f"--node-rank={rank}"]
        launcher.main([*meeting, "--start-method=fork", "--run-path", __main__.__file__, *words])
        return 0

    other = multiprocessing.get_context("fork").Process(target=machine, args=(1,))
    other.start()
    status, _ = run_command(None, functools.partial(machine, 0))
    other.join()
    assert (status, other.exitcode) == (0, 0)
    assert events(tmp_path / "two", "start")[0]["processes"] == 2
    assert largest_difference(tmp_path / "two", fit(tmp_path / "one", rounds=1)) == 0


def test_stacks_give_the_same_bits_on_any_number_of_processes(tmp_path: Path) -> None:
    options = ("--trainer.stacking=2", "--model.backbone=mlp")
    one, three = (fit(tmp_path / str(devices), *options, devices=devices, participants=5) for devices in (1, 3))
    assert largest_difference(one, three) == 0
    in_turn = fit(tmp_path / "in-turn", *options[1:], participants=5)
    assert [events(run, "start")[0]["stacking"]["size"] for run in (one, three, in_turn)] == [2, 2, 1]
    # Some processors round a stack's sums as those of its members.
    assert largest_difference(one, in_turn) < 1e-5


def test_processes_agree_on_what_each_of_them_measured(tmp_path: Path) -> None:
    options = ("--model.backbone=mlp", "--data.batch_size=8")
    measured = fit(tmp_path / "auto", "--trainer.stacking=auto", *options, devices=2, participants=5)
    in_turn = fit(tmp_path / "in-turn", *options, participants=5)
    assert "ms in a stack of" in events(measured, "start")[0]["stacking"]["reason"]
    # A process that had come to another answer would have trained others, or waited for ever.
    assert largest_difference(measured, in_turn) < 1e-5


def test_two_replicas_give_the_result_of_one(tmp_path: Path) -> None:
    # Without batch normalisation: with it each replica normalises over its own half of the batch.
    plain = [*TOGETHER, "--model.num_random_widths=1"]
    plain += ["--trainer.correction=Scaffold", "--trainer.participant_state=keep"]
    alone = fit(tmp_path / "alone", *plain, devices=1)
    for devices in (2, 4):
        together = fit(tmp_path / str(devices), *plain, "--trainer.replicas=2", devices=devices)
        assert largest_difference(alone, together) < 1e-5
        reached, expected = (
            [(event["train_loss"], event["validation_accuracy"]["1"]) for event in events(run, "round")]
            for run in (together, alone)
        )
        assert reached == [pytest.approx(pair, abs=0.02) for pair in expected]


def test_a_robust_average_does_not_depend_on_who_hosts_whom(tmp_path: Path) -> None:
    options = (*TOGETHER, "--trainer.aggregator=MultiKrum", "--trainer.assessment.gates=false")
    one, two = (fit(tmp_path / str(devices), *options, devices=devices, rounds=1) for devices in (1, 2))
    assert largest_difference(one, two) == 0


# Whatever a round may be made of: four rounds in which, by the seed, somebody drops out and once nobody is left.
EVERYTHING = (
    "--trainer.aggregator=FedYogi",
    "--trainer.participants_per_round=3",
    "--trainer.participation.sampling=samples",
    "--trainer.participation.availability=0.45",
    "--trainer.participation.dropout=0.3",
    "--trainer.participation.step_budget=5",
    "--trainer.participation.speed=[1.0,0.6,0.3,2.0]",
    "--trainer.correction=Scaffold",
    "--trainer.participant_state=keep",
    *TOGETHER,
)


def test_one_and_three_processes_give_the_same_bits_whatever_a_round_is_made_of(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", *EVERYTHING, rounds=4)
    # Three processes do three rounds, and two go on from the second.
    other = fit(tmp_path / "other", *EVERYTHING, devices=3, rounds=3)
    checkpoint = f"--ckpt_path={other / 'checkpoints' / 'round-0002.ckpt'}"
    fit(other, *EVERYTHING, checkpoint, devices=2, rounds=4)
    assert [event["round"] for event in events(other, "round")] == [1, 2, 3, 3, 4]
    assert largest_difference(one, other) == 0
    rounds = events(one, "round")
    assert any(event["dropped"] for event in rounds)
    assert any(event["cut"] for event in rounds)
    assert any(not event["participants"] for event in rounds)


PRIVATE = (
    "--trainer.privacy.clip=0.5",
    "--trainer.privacy.delta=0.01",
    "--trainer.aggregator=FedAvgM",
    "--trainer.aggregator.weighting=uniform",
    "--trainer.participants_per_round=2",
    "--trainer.participation.sampling=poisson",
    *TOGETHER,
)


def test_noise_and_what_it_spends_are_the_same_on_any_number_of_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (the extra 'privacy')")
    one = fit(tmp_path / "one", *PRIVATE, rounds=3)
    other = fit(tmp_path / "other", *PRIVATE, devices=3, rounds=2)
    fit(other, *PRIVATE, "--ckpt_path=last", devices=2, rounds=3)
    assert largest_difference(one, other) == 0
    for run in (one, other):
        spent = [event["epsilon"] for event in events(run, "round")]
        assert spent == [spent_epsilon(1.0, rounds, delta=0.01, probability=0.5) for rounds in (1, 2, 3)]
        assert [
            float(row["epsilon"]) for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())
        ] == spent
    assert f"epsilon {spent[-1]:.3g} at delta 0.01" in capsys.readouterr().out
