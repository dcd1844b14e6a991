"""Whether a run stacks its participants, and who says so."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.data import DigitsData
from aequa_lightning.engine.local.corrections import FedProx
from aequa_lightning.engine.run import Run, Stacking
from aequa_lightning.engine.stacking import sizing
from aequa_lightning.engine.stacking.sizing import decide_stacking
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from tests.helpers.run_config import small_config


class ReadsValues(torch.nn.Module):
    """A layer that looks at numbers, which torch.func.vmap does not let it."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum().item() < 1e9 else -inputs


class DrawsElsewhere(torch.nn.Module):
    """A layer with random numbers that are not torch's."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.draw() if self.training else inputs


def with_layer(layer: torch.nn.Module) -> Callable[..., torch.nn.Module]:
    return lambda num_classes, input_shape: torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), layer, torch.nn.Linear(8, num_classes)
    )


class OwnStep(SlimmableClassifier):
    """A model that does not train as the stack would."""

    def sandwich(self, *arguments: Any, **options: Any) -> dict[float, torch.Tensor]:
        return super().sandwich(*arguments, **options)


class OwnForward(SlimmableClassifier):
    """A model whose outputs are not those of its network."""

    def forward(self, *arguments: Any, **options: Any) -> torch.Tensor:
        return 2 * super().forward(*arguments, **options)


class MoreParameters(SlimmableClassifier):
    """A model with parameters that the stack would not train."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.temperature = torch.nn.Parameter(torch.ones(1))


def run_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stacking: Any,
    layer: torch.nn.Module | None = None,
    classifier: type[SlimmableClassifier] = SlimmableClassifier,
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    **options: Any,
) -> Run:
    monkeypatch.setattr(
        "aequa_lightning.backbones.full_network.build_backbone",
        lambda name, **options: with_layer(layer or torch.nn.ReLU())(**options),
    )
    monkeypatch.setattr(SlimmableClassifier, "configure_optimizers", lambda self: optimizer(self.parameters()))
    data = DigitsData(participants=9, train_samples=300)
    model = classifier(10, data.input_shape, widths=[1.0])
    config = small_config(tmp_path, stacking=stacking, **options)
    return Run(Fabric(accelerator="cpu", devices=1), model, data, config=config)


@pytest.mark.parametrize(
    ("seconds", "size"),
    [([0.01, 0.5, 0.2, 0.1], 5), ([0.01, 0.5, 0.2, 0.06], 2), ([0.01, 0.5, 0.49, 0.2], 1), ([1.0], 1)],
    ids=["a gain", "more in a small stack", "hardly a gain", "not small"],
)
def test_stacking_auto_stacks_where_that_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: list[float], size: int
) -> None:
    run = run_with(tmp_path, monkeypatch, "auto")
    times = iter(seconds)
    monkeypatch.setattr(sizing, "_least_seconds", lambda work, device: (work(), next(times))[1])
    # Nine participants: two stacks of five at most, or of two. The times are of all steps of all of a stack.
    assert decide_stacking(run, []).size == size


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layer": torch.nn.Dropout(0.5)}, "the network has dropout"),
        ({"optimizer": lambda parameters: torch.optim.Adafactor(parameters)}, "Adafactor"),
        ({"layer": ReadsValues()}, "item"),
        ({"layer": DrawsElsewhere(random.random)}, "draws random numbers"),
        ({"layer": DrawsElsewhere(lambda: float(np.random.rand()))}, "draws random numbers"),
        ({"classifier": OwnStep}, "OwnStep has a step of its own"),
        ({"classifier": OwnForward}, "OwnForward has a step of its own"),
        ({"classifier": MoreParameters}, "parameters besides"),
        ({"compile": True}, "networks are compiled"),
        ({"correction": FedProx()}, "gradients are corrected"),
        ({"participant_state": "keep"}, "participants keep their state"),
    ],
    ids=[
        "dropout",
        "optimizer",
        "a network that vmap refuses",
        "Python's generator",
        "NumPy's generator",
        "a step of its own",
        "outputs of its own",
        "parameters outside",
        "compiled",
        "FedProx",
        "memory",
    ],
)
def test_stacking_what_cannot_be_stacked_is_not_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], reason: str
) -> None:
    # However slow this machine is.
    monkeypatch.setattr(sizing, "MAX_STEP_SECONDS", math.inf)
    stacking = decide_stacking(run_with(tmp_path, monkeypatch, "auto", **options), [])
    assert stacking.size == 1
    assert reason in stacking.reason
    with pytest.raises(InputError, match=rf"trainer\.stacking=3 .*{reason}"):
        decide_stacking(run_with(tmp_path, monkeypatch, 3, **options), [])


def test_stacking_replicas_are_not_stacked_and_a_dropout_of_nothing_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(tmp_path, monkeypatch, "auto", layer=torch.nn.Dropout(0.0))
    assert sizing.reason_against(run) is None
    run.topology.replicas = 2
    assert decide_stacking(run, []) == Stacking(1, "replicas share every participant")


def test_stacking_stack_is_never_more_than_a_group_s_share_of_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[int]] = []
    monkeypatch.setattr(
        sizing, "_measure", lambda run, sizes: (tried.append(list(sizes)), (1.0, [1.0] * len(sizes), None))[1]
    )
    run = run_with(tmp_path, monkeypatch, "auto")
    decide_stacking(run, [])
    run.topology.groups = 3
    decide_stacking(run, [])
    run.config = replace(run.config, participants_per_round=6)
    decide_stacking(run, [])
    # Of nine participants in two stacks at min_samples, in three groups, and of six in three groups.
    assert tried == [[5, 2], [3, 2], [2]]


def test_stacking_stack_that_fails_in_another_process_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(tmp_path, monkeypatch, "auto")
    monkeypatch.setattr(sizing, "_least_seconds", lambda work, device: 0.01)
    means = iter([0.001, 0.1, math.inf, math.inf])
    monkeypatch.setattr(run.topology, "mean_over_processes", lambda own: next(means))
    assert decide_stacking(run, []) == Stacking(1, "a stack cannot be computed: it fails in another process")


def test_stacking_what_is_asked_for_is_done_however_large_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "_least_seconds", lambda work, device: 60.0)
    assert decide_stacking(run_with(tmp_path, monkeypatch, 4), []) == Stacking(4, "asked for")


def test_stacking_losses_that_are_scaled_are_not_stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path, monkeypatch, "auto")
    # On CPUs Fabric takes bf16-mixed in the place of 16-mixed.
    monkeypatch.setattr(run.fabric.strategy.precision, "scaler", torch.amp.GradScaler("cpu"), raising=False)
    assert decide_stacking(run, []) == Stacking(1, "losses are scaled in 16-mixed")


def test_stacking_stack_that_finds_no_memory_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([0.01, 0.5, None, 0.1])

    def least_seconds(work: Callable[[], None], device: torch.device) -> float:
        seconds = next(outcomes)
        if seconds is None:
            raise torch.OutOfMemoryError("no room for a stack of five")
        return seconds

    monkeypatch.setattr(sizing, "_least_seconds", least_seconds)
    assert decide_stacking(run_with(tmp_path, monkeypatch, "auto"), []).size == 2


def test_stacking_what_is_asked_for_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decide_stacking(run_with(tmp_path, monkeypatch, "off"), []) == Stacking(1, "asked for")
    assert decide_stacking(run_with(tmp_path, monkeypatch, 4), []) == Stacking(4, "asked for")


def test_stacking_resumed_run_goes_on_with_what_was_measured_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(tmp_path, monkeypatch, "auto")
    events = [{"event": "start", "stacking": {"size": 3, "reason": "a"}}]
    assert decide_stacking(run, events) == Stacking(3, "a")
    run.progress.round, run.progress.stacking = 1, Stacking(2, "b")
    assert decide_stacking(run, events) == Stacking(2, "b")
