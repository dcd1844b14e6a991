"""The engine's callbacks that bear the names of Lightning's."""

from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from aequa_lightning.data import DigitsData
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.checkpoint import load_checkpoint, load_round
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.processes.signals import STOP_SIGNALS
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import IAFL, FedRAC, FineTuning, Mechanism
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import read_events
from tests.helpers.run_config import small_config

ACCURACIES = (0.3, 0.5, 0.5, 0.6, 0.55, 0.59, 0.7)


class Scripted(CollaborationCallback):
    """Gives the rounds the accuracies of a script, and stops the run after one of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        result.accuracy_by_width[1.0] = ACCURACIES[result.round - 1]  # type: ignore[index]
        if result.round == self.stop_after:
            run.stop.received = STOP_SIGNALS[0]


def build(folder: Path, *callbacks: CollaborationCallback, **options: object) -> Collaboration:
    torch.manual_seed(0)
    data = DigitsData(participants=2, train_samples=60, batch_size=30)
    model = SlimmableClassifier(10, (1, 8, 8), backbone="mlp", backbone_options={"hidden": (4,)}, widths=[1.0, 0.5])
    config = small_config(folder, max_rounds=7, standalone=False, **options)
    return Collaboration(Fabric(accelerator="cpu", devices=1), model, data, config=config, callbacks=callbacks)


@pytest.mark.parametrize(
    ("options", "rounds"),
    [({"patience": 1}, 3), ({"patience": 2}, 6), ({"patience": 3}, 7), ({"patience": 2, "min_delta": 0.15}, 4)],
)
def test_rounds_end_when_nothing_has_improved_for_a_while(
    tmp_path: Path, options: dict[str, float], rounds: int
) -> None:
    collaboration = build(tmp_path, Scripted(), EarlyStopping(**options), checkpoint_every=100)  # type: ignore[arg-type]
    assert collaboration.fit()
    assert collaboration.run.round == rounds
    state = load_round(tmp_path / "checkpoints", rounds)
    assert state is not None
    assert state["ended_early"] == (rounds < 7)


def test_what_has_been_waited_for_survives_a_stop(tmp_path: Path) -> None:
    first = build(tmp_path, Scripted(stop_after=5), EarlyStopping(patience=2))
    assert not first.fit()
    second = build(tmp_path, Scripted(), EarlyStopping(patience=2))
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoints" / "last.ckpt"))
    assert second.fit()
    assert second.run.round == 6
    third = build(tmp_path, Scripted(), EarlyStopping(patience=2))
    third.load_state_dict(load_checkpoint(tmp_path / "checkpoints" / "last.ckpt"))
    assert third.fit()
    assert third.run.round == 6


def test_the_best_round_is_kept_and_later_ones_do_not_replace_it(tmp_path: Path) -> None:
    first = build(tmp_path, Scripted(stop_after=4), ModelCheckpoint())
    assert not first.fit()
    second = build(tmp_path, Scripted(stop_after=6), ModelCheckpoint())
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoints" / "last.ckpt"))
    assert not second.fit()
    assert load_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["round"] == 4


def test_learning_rates_are_recorded(tmp_path: Path) -> None:
    assert build(tmp_path, LearningRateMonitor(), Scripted(), EarlyStopping(patience=1)).fit()
    rounds = [event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "round"]
    assert [event["learning_rate"] for event in rounds] == [1e-3] * 3


@pytest.mark.parametrize("callback", [EarlyStopping, ModelCheckpoint])
def test_an_unknown_figure_is_refused(callback: type) -> None:
    with pytest.raises(InputError, match=r"monitor='val_loss' is unknown; choose validation_accuracy"):
        callback(monitor="val_loss")


@pytest.mark.parametrize("options", [{"patience": 0}, {"min_delta": -1.0}])
def test_early_stopping_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        EarlyStopping(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", [FineTuning(), IAFL(reset=0.1), FedRAC()])
def test_early_stopping_is_refused_where_the_last_round_is_paid_in_another_way(
    tmp_path: Path, mechanism: Mechanism
) -> None:
    with pytest.raises(InputError, match=rf"EarlyStopping: trainer\.mechanism={type(mechanism).__name__} .*leave"):
        build(tmp_path / "refused", EarlyStopping(), mechanism=mechanism)
    build(tmp_path / "fine", EarlyStopping(), mechanism=IAFL())
