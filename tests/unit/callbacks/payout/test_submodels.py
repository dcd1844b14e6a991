"""FedRAC's sub-models against its source's rules, and against what leaving out neurons means."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from aequa_lightning.callbacks.payout.submodels import NeuronLedger, neurons_of
from aequa_lightning.engine.run import Run
from aequa_lightning.mechanisms.payment import RollingSubmodels
from aequa_lightning.mechanisms.rolling import cuts, deserved_accuracies, submodel_sizes

STANDALONE = [0.3, 0.5, 0.4, 0.45, 0.2]


def gated(run: Run, neurons: Tensor, inputs: Tensor) -> Tensor:
    """Return the logits of the server's model with the other neurons' outputs multiplied by 0, as in the source."""
    network = run.classifier.network.full.eval()
    vector_to_parameters(run.parameters, network.parameters())
    first, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        hidden: Tensor = first(inputs.flatten(1)).relu() * neurons
        logits: Tensor = last(hidden)
    return logits


def test_sub_models_of_two_rounds_are_those_of_the_source(run: Run) -> None:
    payment = RollingSubmodels(beta=5.0, steps=4, early=0.2)
    ledger, usage = NeuronLedger(run), np.zeros(8)
    inputs, targets = run.data.validation().tensors
    for number in (2, 3):
        run.progress.round = number - 1
        full = 0.4
        ledger.choose(run, payment, standalone=STANDALONE, full=full)
        order = np.argsort(usage, kind="stable")
        accuracies = []
        for size in (2, 4, 6, 8):
            kept = torch.zeros(8)
            kept[order[:size]] = 1
            accuracies.append((gated(run, kept, inputs).argmax(dim=1) == targets).double().mean().item())
        # From the least contributor upwards, as in the source: s counts pairs of neurons.
        received, before = {}, 0
        for index in np.argsort(STANDALONE)[:-1]:
            held_back = 0.2 - 0.2 / np.log(0.3 * number + 3)
            part = np.exp(5 * STANDALONE[index]) / np.exp(5 * max(STANDALONE))
            deserved = STANDALONE[index] + (full - full * held_back) * part
            s = next((s for s in range(3, before, -1) if accuracies[s] <= deserved), min(before + 1, 3))
            received[index], before = 2 * s, s
        received[int(np.argmax(STANDALONE))] = 8
        for index, size in received.items():
            held = np.zeros(8, dtype=bool)
            held[order[:size]] = True
            assert ledger.neurons[index].tolist() == held.tolist()
            usage += held
    restored = NeuronLedger(run)
    restored.load_state_dict(ledger.state_dict())
    for one in (restored, ledger):
        one.choose(run, payment, standalone=STANDALONE, full=0.4)
    assert torch.equal(restored.neurons, ledger.neurons)


def test_sizes_are_those_of_the_source_for_any_curve() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        standalone, accuracies = random.random(6), np.sort(random.random(10)).tolist()
        deserved = standalone + 0.3 * random.random(6)
        expected, place, before = {}, 1, 0
        for index in np.argsort(standalone)[:-1]:
            for place in range(9, before, -1):
                if accuracies[place] <= deserved[index]:
                    break
            expected[int(index)], before = 4 * place, place
        sizes = submodel_sizes(standalone.tolist(), deserved.tolist(), accuracies, cuts(40, 10))
        assert {index: size for index, size in enumerate(sizes) if index in expected} == expected
        assert sizes[int(standalone.argmax())] == 40


def test_more_is_held_back_as_rounds_pass_and_after_the_switch() -> None:
    def best(number: int) -> float:
        return float(
            deserved_accuracies([0.5, 0.2], 0.6, round=number, beta=80, early=0.2, late=0.8, switch=100)[0] - 0.5
        )

    assert best(2) > best(50) > best(100) > best(101) > best(1000)
    assert best(101) == pytest.approx(0.6 * (0.2 + 0.8 / np.log(33.3)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_left_out_answers_nothing_and_learns_nothing(run: Run, optimizer: str) -> None:
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
    ledger = NeuronLedger(run)
    ledger.neurons = torch.zeros(5, 8, dtype=torch.bool)
    ledger.neurons[:, [0, 3, 5]] = True
    sent = torch.where(ledger.entries()[0], run.parameters, 0.0)
    inputs, _ = run.data.validation().tensors
    expected = gated(run, ledger.neurons[0].float(), inputs)
    network = run.classifier.network.full
    vector_to_parameters(sent.clone(), network.parameters())
    torch.testing.assert_close(network(inputs), expected)
    stepper = kind(network.parameters(), lr=0.01)
    samples, targets = run.participant(0)
    for _ in range(3):
        stepper.zero_grad()
        nn.functional.cross_entropy(network(samples), targets).backward()
        stepper.step()
    moved = torch.cat([(value.detach()).reshape(-1) for value in network.parameters()]) != sent
    # Neither what leads to the other neurons nor what leads from them.
    weights = [
        moved[: 64 * 8].view(8, 64).any(dim=1),
        moved[64 * 8 : 65 * 8],
        moved[65 * 8 : -10].view(10, 8).any(dim=0),
    ]
    assert [part.nonzero().flatten().tolist() for part in weights] == [[0, 3, 5]] * 3


def test_each_entry_is_averaged_over_those_who_moved_it(run: Run, honest: Tensor) -> None:
    honest[0, :100] = 0
    honest[1:, 50:60] = 0
    honest[:, 7] = 0
    run.server.updates = dict(enumerate(honest))
    mean, coverage = run.server.combine(dict.fromkeys(range(5), 0.2), run.widths, only_moved=True)
    counts = (honest != 0).sum(dim=0)
    torch.testing.assert_close(mean, torch.where(counts > 0, honest.double().sum(dim=0) / counts, 0.0))
    assert coverage[7] == mean[7] == 0
    assert (coverage[50:60] == 0).all()


def test_neurons_include_their_norm_layers_and_leave_out_other_kinds() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Embedding(2, 1), nn.Linear(1, 1), nn.Linear(1, 2)
    )
    assert neurons_of(network).tolist() == [0, 1, 0, 1, 0, 1, -1, -1, 2, 2, -1, -1, -1, -1]
