"""What a run does between and around its rounds, in one process and in a fraction of a second."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import TensorDataset

from aequa_lightning.data import DigitsData, QuantityImbalance
from aequa_lightning.engine import loop
from aequa_lightning.engine.callback import Assignment, CollaborationCallback, RoundResult
from aequa_lightning.engine.checkpoint import load_last, load_round
from aequa_lightning.engine.local.corrections import FedProx, Scaffold
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.processes.signals import STOP_SIGNALS
from aequa_lightning.engine.records import describe_round
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.round_results import Aggregate, ParticipantReport
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.aggregators import Aggregator, FedAvg, FedAvgM
from aequa_lightning.engine.server.privacy import Privacy
from aequa_lightning.engine.stacking.sizing import Stacking, decide_stacking
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import CGSV, Aequa, AequaTraining, Mechanism
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import read_events
from tests.helpers.run_config import small_config


class WithSchedule(SlimmableClassifier):
    """Has a momentum to remember, and a rate that halves from round to round."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def build(run_dir: Path, *callbacks: CollaborationCallback, **options: Any) -> Collaboration:
    data = DigitsData(participants=4, train_samples=120, batch_size=8, partition=QuantityImbalance(0.4, 1))
    torch.manual_seed(0)
    hidden = {"hidden": (8,)}
    model = options.pop("kind", WithSchedule)(
        10, data.input_shape, backbone="mlp", backbone_options=hidden, widths=[1.0, 0.5]
    )
    config = small_config(run_dir, **{"max_rounds": 3, "standalone": False} | options)
    return Collaboration(Fabric(accelerator="cpu", devices=1), model, data, config=config, callbacks=list(callbacks))


def saved(collaboration: Collaboration) -> list[str]:
    return sorted(path.stem for path in (collaboration.run.config.run_dir / "checkpoints").glob("round-*.ckpt"))


class StopIn(CollaborationCallback):
    """Is told to stop in one of the rounds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        if result.round == self.number:
            run.stop.received = STOP_SIGNALS[0]


# --- what is saved ---------------------------------------------------------------------------------------------------


def test_checkpoint_of_the_last_round_is_saved_whatever_the_interval(tmp_path: Path) -> None:
    collaboration = build(tmp_path, checkpoint_every=2, keep_checkpoints=9)
    assert collaboration.fit()
    assert saved(collaboration) == ["round-0002", "round-0003"]


def test_stop_is_saved_at_once_and_precedes_the_payout(tmp_path: Path) -> None:
    stopped, late = (build(tmp_path / str(number), StopIn(number), checkpoint_every=9) for number in (2, 3))
    assert not stopped.fit()
    assert saved(stopped) == ["round-0002"]
    assert not late.fit()
    assert saved(late) == ["round-0003"]


def test_participant_state_is_on_disk_before_a_checkpoint_refers_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collaboration, order = build(tmp_path, participant_state="keep", max_rounds=1), []
    sync, barrier, save = (
        collaboration.cohort_trainer.states.sync,
        collaboration.run.fabric.barrier,
        loop.save_checkpoint,
    )

    def noted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: (order.append(name), work(*arguments, **options))[1]

    monkeypatch.setattr(collaboration.cohort_trainer.states, "sync", noted("sync", sync))
    monkeypatch.setattr(collaboration.run.fabric, "barrier", noted("barrier", barrier))
    monkeypatch.setattr(loop, "save_checkpoint", noted("save", save))
    assert collaboration.fit()
    assert order[-4:] == ["sync", "barrier", "save", "barrier"]  # the last one ends the run


def test_participant_state_is_deleted_with_the_last_checkpoint_that_refers_to_it(tmp_path: Path) -> None:
    collaboration = build(tmp_path, participant_state="keep", keep_checkpoints=1)
    assert collaboration.fit()
    assert [path.name for path in (tmp_path / "participants").iterdir()] == ["round-0003"]


def test_participant_state_is_required_by_a_resume(tmp_path: Path) -> None:
    first = build(tmp_path / "one", participant_state="keep", max_rounds=1)
    assert first.fit()
    state = load_last(tmp_path / "one" / "checkpoints")
    assert state is not None
    other = build(tmp_path / "other", participant_state="keep")
    other.load_state_dict(state)
    with pytest.raises(InputError, match="what 4 participants have kept"):
        other.fit()
    assert not read_events(tmp_path / "other" / "events.jsonl")


def test_checkpoint_holds_the_server_whatever_a_callback_leaves_in_the_model(tmp_path: Path) -> None:
    collaboration = build(tmp_path)
    collaboration.run.local.parameters.fill_(7)
    state = collaboration.state_dict()["state_dict"]
    assert torch.equal(torch.cat([value.reshape(-1) for value in state.values()]), collaboration.run.parameters)


def test_resume_keeps_the_widths(tmp_path: Path) -> None:
    collaboration, other = build(tmp_path), build(tmp_path)
    collaboration.run.progress.widths = [1.0, 0.5, 1.0, 0.5]
    other.load_state_dict(collaboration.state_dict())
    assert other.run.widths == collaboration.run.widths


def test_resume_adds_the_earlier_time(tmp_path: Path) -> None:
    collaboration = build(tmp_path)
    collaboration.load_state_dict(collaboration.state_dict() | {"seconds": 1000.0})
    assert 1000 < collaboration.run.seconds < 1100


def test_resume_from_an_earlier_round_leaves_each_round_once_in_the_metrics(
    tmp_path: Path,
) -> None:
    assert build(tmp_path, keep_checkpoints=3).fit()
    state = load_round(tmp_path / "checkpoints", 2)
    assert state is not None
    collaboration = build(tmp_path, keep_checkpoints=3)
    collaboration.load_state_dict(state)
    assert collaboration.fit()
    rounds = [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert rounds == ["round", "1", "2", "3"]
    told = [event["event"] for event in read_events(tmp_path / "events.jsonl")]
    assert told == ["start", *["round"] * 3, "finish", "resume", "round", "finish"]


def test_standalone_results_are_recorded_once(tmp_path: Path) -> None:
    def told() -> list[str]:
        events = read_events(tmp_path / "events.jsonl")
        return [event["participant"] for event in events if event["event"] == "standalone"]

    for _ in range(2):
        collaboration = build(tmp_path, max_rounds=1, standalone=True)
        assert collaboration.fit()
    assert told() == list(collaboration.run.data.names)
    first = collaboration.run.standalone.all
    # A run that lasts longer is measured against longer training alone.
    longer = build(tmp_path, max_rounds=6, standalone=True)
    assert longer.fit()
    assert set(told()) == set(collaboration.run.data.names)
    assert [result.validation_accuracy for result in longer.run.standalone.all] != [
        result.validation_accuracy for result in first
    ]


@pytest.mark.parametrize("damaged", [False, True])
def test_standalone_training_stops_after_a_round_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    done: list[tuple[int | str, ...]] = []
    train = LocalTrainer.train

    def counted(local: LocalTrainer, *arguments: Any, keys: tuple[int | str, ...], **options: Any) -> float:
        done.append(keys)
        if len(done) == 6:  # the second round of the second participant
            collaboration.run.stop.received = STOP_SIGNALS[0]
        return train(local, *arguments, keys=keys, **options)

    monkeypatch.setattr(LocalTrainer, "train", counted)
    collaboration = build(tmp_path / "run", max_rounds=4, standalone=True)
    assert not collaboration.fit()
    assert done[-1][1:] == (1, "round", 2)
    (unfinished,) = (tmp_path / "run" / "standalone").glob("*.unfinished")
    if damaged:
        content = bytearray(unfinished.read_bytes())
        content[len(content) // 2] ^= 1
        unfinished.write_bytes(content)
    resumed = build(tmp_path / "run", max_rounds=4, standalone=True)
    assert resumed.fit()
    assert done[6][1:] == (1, "round", 1 if damaged else 3)
    assert not unfinished.exists()
    whole = build(tmp_path / "whole", max_rounds=4, standalone=True)
    assert whole.fit()
    assert [replace(result, seconds=0.0) for result in resumed.run.standalone.all] == [
        replace(result, seconds=0.0) for result in whole.run.standalone.all
    ]


def test_resume_restores_everything_that_a_schedule_changes(tmp_path: Path) -> None:
    class WithCycle(WithSchedule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=9)]

    whole, half = build(tmp_path / "whole", kind=WithCycle), build(tmp_path / "half", kind=WithCycle, max_rounds=2)
    assert whole.fit()
    assert half.fit()
    resumed = build(tmp_path / "half", kind=WithCycle)
    resumed.load_state_dict(load_last(tmp_path / "half" / "checkpoints") or {})
    assert resumed.fit()
    assert torch.equal(resumed.run.parameters, whole.run.parameters)


class WithWarmUp(SlimmableClassifier):
    """Has a rate that grows from round to round, and a momentum that falls meanwhile."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=4, pct_start=0.75)]


def test_standalone_training_follows_the_schedule_of_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collaboration, rates = build(tmp_path, kind=WithWarmUp, standalone=True, max_rounds=4), {}
    train, group = collaboration.run.local.train, collaboration.run.local.optimizer.optimizer.param_groups[0]

    def noted(*arguments: Any, keys: tuple[Any, ...], **options: Any) -> float:
        kind, place = ("alone", keys[3]) if keys[0] == "standalone" else ("together", keys[1])
        rates.setdefault(kind, {}).setdefault(place, set()).add((group["lr"], group["momentum"]))
        return train(*arguments, keys=keys, **options)

    monkeypatch.setattr(collaboration.run.local, "train", noted)
    assert collaboration.fit()
    assert rates["alone"] == rates["together"]
    assert len({rate for (rate,) in rates["alone"].values()}) == 4


def test_standalone_training_resumes_within_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"kind": WithWarmUp, "standalone": True, "max_rounds": 4}
    whole, stopped = build(tmp_path / "whole", **options), build(tmp_path / "stopped", **options)
    assert whole.fit()
    train = stopped.run.local.train

    def stop_in_the_second(*arguments: Any, keys: tuple[Any, ...], **others: Any) -> float:
        if keys == ("standalone", 1, "round", 2):
            stopped.run.stop.received = STOP_SIGNALS[0]
        return train(*arguments, keys=keys, **others)

    monkeypatch.setattr(stopped.run.local, "train", stop_in_the_second)
    assert not stopped.fit()
    assert len(list((tmp_path / "stopped" / "standalone").glob("*.unfinished"))) == 1
    resumed = build(tmp_path / "stopped", **options)
    assert resumed.fit()
    results = [[{**vars(one), "seconds": 0} for one in each.run.standalone.all] for each in (whole, resumed)]
    assert results[0] == results[1]


def test_resume_restores_two_callbacks_of_one_class(tmp_path: Path) -> None:
    class Count(CollaborationCallback):
        def __init__(self, step: int) -> None:
            self.step, self.total = step, 0

        def on_round_end(self, run: Run, result: RoundResult) -> None:
            self.total += self.step

        def state_dict(self) -> dict[str, Any]:
            return {"total": self.total}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.total = state["total"]

    assert build(tmp_path, Count(1), Count(100), max_rounds=2).fit()
    counts = Count(1), Count(100)
    build(tmp_path, *counts).load_state_dict(load_last(tmp_path / "checkpoints") or {})
    assert [count.total for count in counts] == [2, 200]


def test_resume_without_stackable_participants_trains_them_one_by_one(tmp_path: Path) -> None:
    collaboration = build(tmp_path, stacking="auto", participant_state="keep")
    collaboration.load_state_dict(
        collaboration.state_dict() | {"round": 1, "stacking": {"size": 2, "reason": "faster"}}
    )
    assert decide_stacking(collaboration.run, []) == Stacking(1, "participants keep their state")


def test_round_record_of_a_refused_update_has_no_loss(tmp_path: Path) -> None:
    collaboration = build(tmp_path)
    average = Aggregate({0: 1.0}, [], torch.zeros(1), torch.ones(()))
    reports = {0: ParticipantReport(0.5), 1: ParticipantReport(refused=True)}
    record = describe_round(collaboration.run, reports, average, {1.0: 0.5})
    assert [row["loss"] for row in record["participants"]] == [0.5, None]


def test_resume_past_the_last_round_is_refused(tmp_path: Path) -> None:
    state = build(tmp_path).state_dict() | {"round": 4}
    with pytest.raises(InputError, match=r"after round 4, but trainer\.max_rounds=3"):
        build(tmp_path).load_state_dict(state)


def test_run_that_is_refused_changes_no_file(tmp_path: Path) -> None:
    collaboration = build(tmp_path, configuration="as it was", keep_checkpoints=3)
    assert collaboration.fit()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.parent.name != "processes"}
    refused = build(tmp_path, configuration="as it is not to be", stacking=3, correction=FedProx())
    refused.load_state_dict(load_round(tmp_path / "checkpoints", 2) or {})
    with pytest.raises(InputError, match=r"trainer\.stacking=3 is not possible here"):
        refused.fit()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.parent.name != "processes"} == before
    assert (tmp_path / "config.yaml").read_text() == "as it was"


class WithAnother(SlimmableClassifier):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), amsgrad=True)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"participant_state": "keep", "kind": WithAnother}, r"SGD\(\) need, now .*NoCorrection and Adam\(amsgrad\)"),
        ({"participant_state": "keep", "correction": Scaffold()}, "NoCorrection and .* now .*Scaffold and"),
        ({}, r"NoCorrection and SGD\(\) need, now it is None"),
    ],
)
def test_resume_with_other_kept_state_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    state = build(tmp_path, participant_state="keep").state_dict()
    with pytest.raises(InputError, match=message):
        build(tmp_path, **changes).load_state_dict(state)


class WithoutMemory(SlimmableClassifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.RMSprop(self.parameters(), foreach=False)


class WithMemory(SlimmableClassifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.RMSprop(self.parameters(), foreach=True, momentum=0.9)


def test_resume_may_change_how_an_optimizer_computes_but_not_its_state(tmp_path: Path) -> None:
    keep = {"participant_state": "keep"}
    state = build(tmp_path, kind=WithMemory, **keep).state_dict()
    build(tmp_path, kind=WithMemory, **keep).load_state_dict(state)
    with pytest.raises(InputError, match=r"RMSprop\(momentum\) need, now .*RMSprop\(\) need"):
        build(tmp_path, kind=WithoutMemory, **keep).load_state_dict(state)
    described = build(tmp_path, kind=WithoutMemory, **keep).state_dict()["kept_state"]
    assert described == "what NoCorrection and RMSprop() need"


class OneOfMyOwn(Aggregator):
    def optimizer(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)


def test_privacy_noise_ignores_addresses_in_reprs(tmp_path: Path) -> None:
    one, other = (build(tmp_path, privacy=Privacy(), aggregator=OneOfMyOwn()) for _ in range(2))
    rates = [{"lr": 0.1}]
    assert one.run.private_average is not None
    assert other.run.private_average is not None
    noises = [each.run.private_average.noise(9, round=1, rates=rates) for each in (one, other)]
    assert torch.equal(*noises)


def test_run_refuses_a_participant_without_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DigitsData, "participant", lambda data, number: TensorDataset(torch.empty(0), torch.empty(0)))
    with pytest.raises(InputError, match="participant-00 has no samples"):
        build(tmp_path)


def test_resume_with_another_aggregator_is_refused(tmp_path: Path) -> None:
    state = build(tmp_path, aggregator=FedAvgM()).state_dict()
    with pytest.raises(InputError, match=r"saved with trainer\.aggregator=FedAvgM; .* of no use to FedAvg\."):
        build(tmp_path).load_state_dict(state)


# --- what a round is made of -----------------------------------------------------------------------------------------


def test_schedule_is_stepped_after_each_round(tmp_path: Path) -> None:
    rates = []

    class Note(CollaborationCallback):
        def on_round_start(self, run: Run) -> None:
            rates.append(run.local.optimizer.optimizer.param_groups[0]["lr"])

    assert build(tmp_path, Note()).fit()
    assert rates == [0.1, 0.05, 0.025]


def test_round_holds_the_updates_of_its_participants_only(tmp_path: Path) -> None:
    seen: dict[int, tuple[set[int], set[int]]] = {}

    class Note(CollaborationCallback):
        def on_round_end(self, run: Run, result: RoundResult) -> None:
            seen[result.round] = set(run.cohort.completed), set(result.updates)

    assert build(tmp_path, Note(), participants_per_round=2).fit()
    assert len({tuple(sorted(present)) for present, _ in seen.values()}) > 1
    assert all(present == sent for present, sent in seen.values())


def test_round_excluded_update_does_not_move_the_server(tmp_path: Path) -> None:
    class LeaveOut(CollaborationCallback):
        def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> list[int]:
            self.before, self.sent = run.parameters.clone(), dict(run.server.updates)
            return [1]

        def on_round_end(self, run: Run, result: RoundResult) -> None:
            self.weights, self.after = result.weights, run.parameters.clone()

    seen = LeaveOut()
    assert build(tmp_path, seen, aggregator=FedAvg("uniform"), max_rounds=1).fit()
    mean = torch.stack([seen.sent[index] for index in (0, 2, 3)]).mean(dim=0)
    torch.testing.assert_close(seen.after - seen.before, mean, atol=1e-6, rtol=0)
    assert list(seen.weights) == [0, 2, 3]
    (event,) = (event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "round")
    assert event["excluded"] == ["participant-01"]


def test_round_evaluates_the_average(tmp_path: Path) -> None:
    class Note(CollaborationCallback):
        def on_round_end(self, run: Run, result: RoundResult) -> None:
            assert torch.equal(run.local.parameters, run.parameters)
            inputs, targets = run.data.validation().tensors
            for width, accuracy in result.accuracy_by_width.items():
                with torch.no_grad():
                    found = run.classifier.network(inputs, width).argmax(1) == targets
                assert accuracy == pytest.approx(found.double().mean().item())

    collaboration = build(tmp_path, Note())
    assert collaboration.fit()
    assert collaboration.run.round == 3


def test_round_record_weighs_by_samples_and_counts_bytes_by_width(tmp_path: Path) -> None:
    collaboration = build(tmp_path, max_rounds=1)
    collaboration.run.progress.widths = [1.0, 0.5, 0.5, 0.5]
    assert collaboration.fit()
    (event,) = (event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "round")
    losses, samples = zip(*((row["loss"], row["samples"]) for row in event["participants"]), strict=True)
    mean = sum(loss * count for loss, count in zip(losses, samples, strict=True)) / sum(samples)
    assert event["train_loss"] == pytest.approx(mean)
    assert len(set(samples)) > 1
    # Four bytes a parameter, down and up.
    held = len(collaboration.run.parameters) + 3 * sum(
        p.numel() for p in collaboration.run.classifier.network.extract(0.5).parameters()
    )
    assert event["bytes_sent"] == 4 * 2 * held


def test_round_step_budget_follows_the_speed(tmp_path: Path) -> None:
    participation = Participation(step_budget=2, speed=[1.0, 0.5, 9.0, 1.0])
    collaboration = build(tmp_path, participation=participation, work=LocalWork(steps=3))
    assert [collaboration.run.work(index).steps for index in range(4)] == [2, 1, 3, 2]


# --- what a process hosts --------------------------------------------------------------------------------------------


def test_cohort_receives_nothing_outside_of_its_width(tmp_path: Path) -> None:
    received: dict[int, Tensor] = {}

    class Note(CollaborationCallback):
        def on_participant_start(self, run: Run, participant: int, parameters: Tensor) -> None:
            received[participant] = parameters.clone()

    collaboration = build(tmp_path, Note())
    collaboration.run.progress.widths = [1.0, 0.5, 0.5, 0.5]
    for stack in ([0], [1], [2, 3]):
        collaboration.cohort_trainer.train(1, stack)
    assert torch.equal(received.pop(0), collaboration.run.parameters)
    held = collaboration.run.masks.mask(0.5)
    for parameters in received.values():
        assert torch.equal(parameters[held], collaboration.run.parameters[held])
        assert not parameters[~held].any()


def test_cohort_update_lies_within_the_width_despite_momentum(tmp_path: Path) -> None:
    collaboration = build(tmp_path, participant_state="keep")
    assert collaboration.cohort_trainer.train(1, [0]) != [None]
    assert (collaboration.run.server.updates[0] != 0).all()
    collaboration.cohort_trainer.end_round(1, {}, averaged=[0])
    collaboration.run.widths[0] = 0.5
    collaboration.cohort_trainer.train(2, [0])
    held = collaboration.run.masks.mask(0.5)
    assert (collaboration.run.server.updates[0][held] != 0).any()
    assert not collaboration.run.server.updates[0][~held].any()


def test_cohort_refuses_an_update_with_a_loss_or_variate_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collaboration = build(tmp_path, correction=Scaffold())
    train, finish = collaboration.run.local.train, collaboration.cohort_trainer.corrector.finish
    monkeypatch.setattr(collaboration.run.local, "train", lambda *a, **b: train(*a, **b) * float("nan"))
    assert collaboration.cohort_trainer.train(1, [0]) == [None]
    monkeypatch.setattr(collaboration.run.local, "train", train)
    monkeypatch.setattr(collaboration.cohort_trainer.corrector, "finish", lambda: finish() * float("inf"))
    assert collaboration.cohort_trainer.train(1, [1]) == [None]
    monkeypatch.setattr(collaboration.cohort_trainer.corrector, "finish", finish)
    assert collaboration.cohort_trainer.train(1, [2]) != [None]
    assert set(collaboration.run.server.updates) == {2}
    assert [path.stem for path in (tmp_path / "participants").rglob("*.pt")] == [collaboration.run.data.names[2]]


def test_cohort_state_is_written_by_the_first_replica(tmp_path: Path) -> None:
    collaboration = build(tmp_path, participant_state="keep")
    collaboration.run.topology.replica = 1
    collaboration.cohort_trainer.train(1, [0])
    assert not list(tmp_path.rglob("*.pt"))


def test_cohort_keeps_a_variate_without_momentum(tmp_path: Path) -> None:
    collaboration = build(tmp_path, correction=Scaffold())
    collaboration.cohort_trainer.train(1, [0])
    collaboration.cohort_trainer.end_round(1, {}, averaged=[0])
    kept = collaboration.cohort_trainer.states.load(0)
    assert kept["optimizer"] is None
    assert kept["variate"].any()


@pytest.mark.parametrize(("mechanism", "own"), [(Aequa(), False), (AequaTraining(), False), (CGSV(), True)])
def test_run_grid_depends_on_the_mechanism(tmp_path: Path, mechanism: Mechanism, own: bool) -> None:
    run = build(tmp_path, mechanism=mechanism).run
    assert run.grid == ((1.0,) if own else (1.0, 0.5))
    assert (run.models is not None) == own
    if run.models is not None:
        start = run.parameters.clone()
        assert torch.equal(run.models, start.expand(4, -1))
        run.models[0] += 1
        assert torch.equal(run.models[1], start)
        assert torch.equal(run.parameters, start)


class Decides(CollaborationCallback):
    """Decides in one of the hooks."""

    def __init__(self, hook: str, decision: Any) -> None:
        setattr(self, hook, lambda *_: decision)


@pytest.mark.parametrize(
    ("hook", "decision"), [("on_round_start", Assignment([1.0, 0.5, 0.5, 1.0])), ("on_round_end", RewardSource())]
)
def test_callback_decisions_of_two_are_refused_instead_of_the_last_one_taken(
    tmp_path: Path, hook: str, decision: Any
) -> None:
    assert build(tmp_path / "one", Decides(hook, decision), max_rounds=1).fit()
    two = build(tmp_path / "two", Decides(hook, decision), Decides(hook, decision), max_rounds=1)
    with pytest.raises(InputError, match=f"2 callbacks decide in {hook}"):
        two.fit()
