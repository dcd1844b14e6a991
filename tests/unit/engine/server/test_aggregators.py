"""The server's steps against the recurrences of Reddi et al. (ICLR 2021), written out in numpy."""

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.aggregators import Aggregator, FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.server import Server
from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel

EVERYWHERE = torch.tensor(1.0)
UPDATES = np.random.default_rng(0).normal(size=(5, 6)) * 0.1


def start(parameters: torch.Tensor, aggregator: Aggregator) -> Server:
    """A server whose parameters are no network's: only its steps are looked at."""
    topology = Topology(Fabric(accelerator="cpu", devices=1))
    network = SlimmableModel(torch.nn.Linear(1, 1), [1.0], torch.zeros(1, 1))
    return Server(parameters, aggregator, WidthMasks(network, topology.device), topology)


def trained(aggregator: Aggregator, updates: np.ndarray = UPDATES) -> np.ndarray:
    parameters = torch.ones(6)
    server = start(parameters, aggregator)
    for update in updates:
        server.step(torch.from_numpy(update), EVERYWHERE)
    return parameters.numpy()


def test_fedavg_adds_the_average_bit_by_bit() -> None:
    expected = torch.ones(6)
    for update in UPDATES:
        expected += torch.from_numpy(update).float()
    assert (trained(FedAvg()) == expected.numpy()).all()


def test_server_without_an_update_stays() -> None:
    for aggregator in (FedAvg(), FedAvgM(), FedYogi()):
        server = start(torch.ones(3), aggregator)
        server.step(torch.full((3,), 0.5, dtype=torch.float64), EVERYWHERE)
        moved = server.parameters.clone()
        server.step(*server.combine({}, []))
        assert (server.parameters == moved).all()


def test_fedavgm_equals_momentum() -> None:
    x, v = np.ones(6), np.zeros(6)
    for update in UPDATES:
        v = 0.8 * v + update
        x = x + 0.5 * v
    np.testing.assert_allclose(trained(FedAvgM(lr=0.5, momentum=0.8)), x, rtol=1e-5)


def test_fedadagrad_equals_adagrad() -> None:
    x, squares = np.ones(6), np.zeros(6)
    for update in UPDATES:
        squares = squares + update**2
        x = x + 0.1 * update / (np.sqrt(squares) + 0.01)
    np.testing.assert_allclose(trained(FedAdagrad(lr=0.1, tau=0.01)), x, rtol=1e-5)


def test_fedadam_equals_adam_with_bias_correction() -> None:
    x, m, v = np.ones(6), np.zeros(6), np.zeros(6)
    for number, update in enumerate(UPDATES, start=1):
        m, v = 0.9 * m + 0.1 * update, 0.99 * v + 0.01 * update**2
        x = x + 0.1 * (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.99**number)) + 0.01)
    np.testing.assert_allclose(trained(FedAdam(lr=0.1, tau=0.01)), x, rtol=1e-5)


def test_fedyogi_equals_the_source() -> None:
    x, m, v = np.ones(6), np.zeros(6), np.full(6, 0.01**2)
    for update in UPDATES:
        m = 0.9 * m + 0.1 * update
        v = v - 0.01 * update**2 * np.sign(v - update**2)
        x = x + 0.1 * m / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(trained(FedYogi(lr=0.1, tau=0.01)), x, rtol=1e-4)


@pytest.mark.parametrize("aggregator", [FedAvgM(), FedAdam(), FedYogi(), FedAdagrad()])
def test_server_entries_that_nobody_holds_stay(aggregator: Aggregator) -> None:
    parameters = torch.ones(2)
    server = start(parameters, aggregator)
    server.step(torch.tensor([0.5, 0.5], dtype=torch.float64), EVERYWHERE)
    kept = parameters[1].item()
    server.step(torch.tensor([0.5, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0]))
    assert parameters[1].item() == kept
    assert parameters[0].item() != kept


@pytest.mark.parametrize("aggregator", [FedAvgM(), FedAdam(), FedYogi(), FedAdagrad()])
def test_server_restored_continues_as_before(aggregator: Aggregator) -> None:
    parameters = torch.ones(6)
    server = start(parameters, aggregator)
    for update in UPDATES[:3]:
        server.step(torch.from_numpy(update), EVERYWHERE)
    other = start(parameters.clone(), aggregator)
    other.load_state_dict(server.state_dict())
    for update in UPDATES[3:]:
        other.step(torch.from_numpy(update), EVERYWHERE)
    assert (other.parameters.numpy() == trained(aggregator)).all()


def test_aggregator_options_out_of_range_are_refused() -> None:
    wrong = [
        (FedAvgM, {"momentum": 1.0}),
        (FedAvgM, {"lr": 0.0}),
        (FedAdagrad, {"lr": -1.0}),
        (FedAdagrad, {"tau": -1.0}),
    ]
    wrong += [(FedAdam, {"lr": 0.0}), (FedAdam, {"tau": 0.0}), (FedAdam, {"beta1": 1.0}), (FedYogi, {"beta2": -0.1})]
    for aggregator, options in wrong:
        with pytest.raises(InputError, match=next(iter(options))):
            aggregator(**options)


def test_server_divergence_names_the_aggregator() -> None:
    server = start(torch.ones(6), FedAvgM(lr=1e38))
    update = torch.full((6,), 1e3, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match=r"trainer\.aggregator=FedAvgM .* lower its lr"):
        server.step(update, EVERYWHERE)
