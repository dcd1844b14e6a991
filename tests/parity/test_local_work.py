"""What participants do between two averages, against the same thing written out by hand in plain PyTorch."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aequa_lightning.data import DigitsData, QuantityImbalance
from aequa_lightning.engine.local.corrections import FedProx, Scaffold
from aequa_lightning.engine.local.work import LocalWork, batches
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.engine.server.privacy import Privacy, PrivateAverage
from aequa_lightning.mechanisms import SharedModel
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import parameters

ROUNDS, RATE, MU, PARTICIPANTS, PER_ROUND, SEED = 4, 0.1, 0.5, 3, 2, 5


class Classifier(SlimmableClassifier):
    momentum = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=RATE, momentum=self.momentum)


def by_the_engine(run_dir: Path, momentum: float, **options: Any) -> tuple[torch.nn.Module, DigitsData, Tensor]:
    """Return the network before training, the data, and the trained parameters."""
    torch.manual_seed(0)
    data = DigitsData(participants=PARTICIPANTS, partition=QuantityImbalance(0.6, 1), train_samples=300)
    model = Classifier(10, (1, 8, 8), backbone="mlp", widths=[1.0])
    model.momentum = momentum
    before = copy.deepcopy(model.network.full)
    CollaborativeTrainer(
        accelerator="cpu",
        devices=1,
        max_rounds=ROUNDS,
        participants_per_round=PER_ROUND,
        aggregator=FedAvg("uniform"),
        run_dir=str(run_dir),
        mechanism=SharedModel(),
        seed=SEED,
        report=False,
        export_programs=False,
        **options,
    ).fit(model, data)
    return before, data, torch.cat([value.reshape(-1) for value in parameters(run_dir).values()])


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def put(module: torch.nn.Module, vector: Tensor) -> None:
    torch.nn.utils.vector_to_parameters(vector.clone(), module.parameters())


class ByHand:
    """Rounds of two participants out of three, whose local steps a test writes out."""

    def __init__(self, network: torch.nn.Module, data: DigitsData) -> None:
        self.network, self.data, self.server = network, data, flat(network)

    def rounds(self, participation: Participation | None = None) -> Any:
        sizes = [len(self.data.participant(index)) for index in range(PARTICIPANTS)]
        for number in range(1, ROUNDS + 1):
            cohort = (participation or Participation()).draw(sizes, PER_ROUND, seed=SEED, round=number)
            yield number, cohort.completed

    def losses(self, number: int, index: int) -> Any:
        """Yield the loss of each batch, at the parameters that the network then has."""
        inputs, targets = self.data.participant(index).tensors
        seed = derive_seed(SEED, "round", number, "participant", index)
        for batch in batches(len(targets), LocalWork(), self.data.batch_size, seed=seed):
            yield functional.cross_entropy(self.network(inputs[batch]), targets[batch])


def test_fedprox(tmp_path: Path) -> None:
    network, data, trained = by_the_engine(tmp_path, 0.0, correction=FedProx(MU))
    hand = ByHand(network, data)
    for number, present in hand.rounds():
        reached = []
        for index in present:
            put(network, hand.server)
            for loss in hand.losses(number, index):
                anchor = hand.server.split([p.numel() for p in network.parameters()])
                distance = sum(
                    ((p.reshape(-1) - a) ** 2).sum() for p, a in zip(network.parameters(), anchor, strict=True)
                )
                gradients = torch.autograd.grad(loss + MU / 2 * distance, list(network.parameters()))
                put(network, flat(network) - RATE * torch.cat([g.reshape(-1) for g in gradients]))
            reached.append(flat(network))
        hand.server = torch.stack(reached).mean(dim=0)
    torch.testing.assert_close(trained, hand.server, atol=1e-5, rtol=0)


def test_scaffold_is_option_two_of_its_source(tmp_path: Path) -> None:
    network, data, trained = by_the_engine(tmp_path, 0.0, correction=Scaffold())
    hand = ByHand(network, data)
    own, common = torch.zeros(PARTICIPANTS, len(hand.server)), torch.zeros_like(hand.server)
    for number, present in hand.rounds():
        reached, variates = [], {}
        for index in present:
            put(network, hand.server)
            steps = 0
            for loss in hand.losses(number, index):
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                gradient = torch.cat([g.reshape(-1) for g in gradients])
                put(network, flat(network) - RATE * (gradient - own[index] + common))
                steps += 1
            reached.append(flat(network))
            variates[index] = own[index] - common + (hand.server - reached[-1]) / (steps * RATE)
        hand.server = torch.stack(reached).mean(dim=0)
        common = common + sum(variates[index] - own[index] for index in present) / PARTICIPANTS
        for index in present:
            own[index] = variates[index]
    torch.testing.assert_close(trained, hand.server, atol=1e-4, rtol=0)


def test_private_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is averaged needs no accountant.
    monkeypatch.setattr("aequa_lightning.trainer.compatibility.check_accountant", lambda: None)
    monkeypatch.setattr("aequa_lightning.engine.server.privacy.spent_epsilon", lambda *_, **__: 1.0)
    privacy, participation = Privacy(clip=0.15, noise_multiplier=0.1), Participation("poisson", availability=0.3)
    drawn: dict[int, torch.Tensor] = {}
    noise = PrivateAverage.noise

    def remember(private: PrivateAverage, size: int, *, round: int, **options: Any) -> torch.Tensor:
        drawn[round] = noise(private, size, round=round, **options)
        return drawn[round]

    monkeypatch.setattr(PrivateAverage, "noise", remember)
    network, data, trained = by_the_engine(tmp_path, 0.0, privacy=privacy, participation=participation)
    hand, numbers, lengths = ByHand(network, data), [], []
    for number, present in hand.rounds(participation):
        total = torch.zeros(len(hand.server), dtype=torch.float64)
        for index in present:
            put(network, hand.server)
            for loss in hand.losses(number, index):
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                put(network, flat(network) - RATE * torch.cat([g.reshape(-1) for g in gradients]))
            update = flat(network) - hand.server
            lengths.append(float(update.norm()))
            total += update * min(1.0, privacy.clip / lengths[-1])
        # The divisor does not tell how many there were, and noise there is also of nobody.
        hand.server = hand.server + (total / PER_ROUND + drawn[number]).float()
        numbers.append(len(present))
    torch.testing.assert_close(trained, hand.server, atol=1e-5, rtol=0)
    assert set(numbers) == {0, 1}
    assert min(lengths) < privacy.clip < max(lengths)


@pytest.mark.parametrize("state", ["reset", "keep"])
def test_what_an_optimizer_remembers(tmp_path: Path, state: str) -> None:
    network, data, trained = by_the_engine(tmp_path, 0.9, participant_state=state)
    hand = ByHand(network, data)
    momentum = torch.zeros(PARTICIPANTS, len(hand.server))
    for number, present in hand.rounds():
        reached = []
        for index in present:
            put(network, hand.server)
            if state == "reset":
                momentum[index] = 0
            for loss in hand.losses(number, index):
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                momentum[index] = 0.9 * momentum[index] + torch.cat([g.reshape(-1) for g in gradients])
                put(network, flat(network) - RATE * momentum[index])
            reached.append(flat(network))
        hand.server = torch.stack(reached).mean(dim=0)
    torch.testing.assert_close(trained, hand.server, atol=1e-5, rtol=0)
    assert (tmp_path / "participants").exists() == (state == "keep")
