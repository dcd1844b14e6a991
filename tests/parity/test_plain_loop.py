"""Federated averaging by the engine against the same thing written out by hand in plain PyTorch."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from aequa_lightning.data import DigitsData, QuantityImbalance
from aequa_lightning.engine.local.work import LocalWork, batches
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.mechanisms import Aequa, SharedModel
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import read_events
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import parameters

ROUNDS, RATE = 3, 0.1


class WithSGD(SlimmableClassifier):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=RATE, momentum=0.9)


def test_three_rounds_of_fedavg(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = DigitsData(participants=3, partition=QuantityImbalance(0.6, 1), train_samples=300)
    model = WithSGD(10, (1, 8, 8), backbone="mlp", widths=[1.0])
    plain = copy.deepcopy(model.network.full)

    CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=ROUNDS, run_dir=str(tmp_path), mechanism=SharedModel(), seed=5
    ).fit(model, data)

    held = [data.participant(number).tensors for number in range(3)]
    total = sum(len(targets) for _, targets in held)
    for number in range(1, ROUNDS + 1):
        average = {name: torch.zeros_like(value) for name, value in plain.state_dict().items()}
        for index, (inputs, targets) in enumerate(held):
            local = copy.deepcopy(plain)
            optimizer = torch.optim.SGD(local.parameters(), lr=RATE, momentum=0.9)
            seed = derive_seed(5, "round", number, "participant", index)
            for batch in batches(len(targets), LocalWork(), data.batch_size, seed=seed):
                optimizer.zero_grad()
                functional.cross_entropy(local(inputs[batch]), targets[batch]).backward()
                optimizer.step()
            for name, value in local.state_dict().items():
                average[name] += value * len(targets) / total
        plain.load_state_dict(average)

    trained = parameters(tmp_path)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(trained[f"network.full.{name}"], value, atol=1e-5, rtol=0)


def test_what_everybody_reaches_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = DigitsData(participants=3, partition=QuantityImbalance(0.6, 1), train_samples=300)
    model = WithSGD(10, (1, 8, 8), backbone="cnn3", widths=[1.0, 0.5])
    plain = copy.deepcopy(model.network.full)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in plain.modules())
    CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=ROUNDS, run_dir=str(tmp_path), mechanism=Aequa(resolution=0.5), seed=5
    ).fit(model, data)

    told = [event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "standalone"]
    for index, event in enumerate(told):
        inputs, targets = data.participant(index).tensors
        local = copy.deepcopy(plain).train()
        optimizer = torch.optim.SGD(local.parameters(), lr=RATE, momentum=0.9)
        # As many passes as there are rounds, at full width, and one optimizer for all of it.
        for number in range(ROUNDS):
            seed = derive_seed(5, "standalone", index, "round", number + 1)
            for batch in batches(len(targets), LocalWork(), data.batch_size, seed=seed):
                optimizer.zero_grad()
                functional.cross_entropy(local(inputs[batch]), targets[batch]).backward()
                optimizer.step()
        # The statistics are those of its own data: there is no server.
        for part in local.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.reset_running_stats()
                part.momentum = None
        with torch.no_grad():
            local(inputs)
            local.eval()
            for name, part in (("validation", data.validation()), ("test", data.test())):
                reached = (local(part.tensors[0]).argmax(1) == part.tensors[1]).double().mean().item()
                assert event[f"{name}_accuracy"] == pytest.approx(reached, abs=1.5 / len(part))
