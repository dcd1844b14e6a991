"""The measures of a round against their definitions, and what the gates do about planted updates."""

import copy
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from aequa_lightning.callbacks.measures import Assessment, Measures
from aequa_lightning.collaboration import exchange
from aequa_lightning.collaboration.engine import Collaboration
from aequa_lightning.collaboration.hooks import RoundResult
from aequa_lightning.contributions import accuracy, update_cosines
from aequa_lightning.errors import InputError

Finish = Callable[..., RoundResult]
EVERYTHING = Assessment(measures=("cosine", "class_cosine", "alignment", "fedsv", "banzhaf"))


def _round(measures: Measures, run: Collaboration, finish: Finish, updates: Tensor, **options: object) -> RoundResult:
    measures.start_round(run)
    result = finish(updates, **options)
    measures.end_round(run, result)
    return result


def _scores(result: RoundResult, name: str) -> list[float]:
    return [row[name] for row in result.record["participants"]]


@pytest.mark.parametrize("table", [5, 2**22])
def test_the_gram_matrix_is_that_of_all_updates(
    run: Collaboration, honest: Tensor, monkeypatch: pytest.MonkeyPatch, table: int
) -> None:
    monkeypatch.setattr(exchange, "TABLE", table)
    updates = {index: honest[index] for index in (0, 2, 4)}
    gram = exchange.gram_matrix(updates, [0, 2, 4], run.topology, size=honest.shape[1])
    rows = honest[[0, 2, 4]].double()
    torch.testing.assert_close(gram, rows @ rows.T)


def test_cosines_are_those_with_the_aggregate(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    for gates in (True, False):
        result = _round(Measures(run, Assessment(gates=gates), paid_by="standalone"), run, finish, honest)
        assert _scores(result, "cosine") == pytest.approx(update_cosines(honest, result.mean_update).tolist())


def test_a_narrow_participant_is_compared_over_what_it_holds(
    run: Collaboration, honest: Tensor, finish: Finish
) -> None:
    run.widths = [1.0, 0.5, 1.0, 1.0, 1.0]
    held = run.holdings.mask(0.5)
    honest[1] *= held
    result = _round(Measures(run, Assessment(("class_cosine",)), paid_by="cosine"), run, finish, honest)
    assert _scores(result, "cosine")[1] == pytest.approx(
        update_cosines(honest[1:2, held], result.mean_update[held]).item()
    )
    # Rows of the last layer: ten classes with four of the eight units held, and a bias each.
    weight, bias = honest[1, -90:-10].view(10, 8)[:, :4], honest[1, -10:]
    mean_weight, mean_bias = result.mean_update[-90:-10].view(10, 8)[:, :4], result.mean_update[-10:]
    rows, means = torch.cat([weight, bias[:, None]], 1), torch.cat([mean_weight, mean_bias[:, None]], 1)
    expected = functional.cosine_similarity(rows.double(), means, dim=1).mean().item()
    assert _scores(result, "class_cosine")[1] == pytest.approx(expected)


def _loss(run: Collaboration, parameters: Tensor) -> float:
    network = copy.deepcopy(run.classifier.network.full).double().eval()
    vector_to_parameters(parameters, network.parameters())
    inputs, targets = run.data.validation().tensors
    with torch.no_grad():
        return functional.cross_entropy(network(inputs.double()), targets).item()


def test_alignment_is_the_slope_of_the_validation_loss(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    base = run.parameters.double()
    result = _round(Measures(run, EVERYTHING, paid_by="standalone"), run, finish, honest)
    for index, score in enumerate(_scores(result, "alignment")):
        step = 1e-5 * result.weights[index] * honest[index]
        slope = (_loss(run, base + step) - _loss(run, base - step)) / 2e-5
        assert score == pytest.approx(-slope, rel=1e-3, abs=1e-6)


def test_fedsv_is_the_mean_over_all_orders_of_joining(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    base = run.parameters.clone()
    assessment = Assessment(measures=("fedsv", "banzhaf"), utility="accuracy")
    result = _round(Measures(run, assessment, paid_by="standalone"), run, finish, honest)
    network = run.classifier.network.full.eval()
    inputs, targets = run.data.validation().tensors

    def worth(members: frozenset[int]) -> float:
        moved = base + sum(result.weights[index] * honest[index] for index in sorted(members))
        vector_to_parameters(moved, network.parameters())
        return accuracy(network(inputs), targets).item()

    worths = {frozenset(order[:k]): 0.0 for order in permutations(range(5)) for k in range(6)}
    worths = {members: worth(members) for members in worths}
    orders = list(permutations(range(5)))
    for index, score in enumerate(_scores(result, "fedsv")):
        before = [frozenset(order[: order.index(index)]) for order in orders]
        gains = [worths[members | {index}] - worths[members] for members in before]
        assert score == pytest.approx(sum(gains) / len(orders))
    for index, score in enumerate(_scores(result, "banzhaf")):
        gains = [worths[members | {index}] - worths[members] for members in worths if index not in members]
        assert score == pytest.approx(sum(gains) / 16)


def test_planted_updates_are_caught_and_worth_nothing(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, EVERYTHING, paid_by="standalone")
    first = _round(measures, run, finish, honest)
    assert first.record["gates"] == []
    planted = honest.roll(1, dims=1)
    planted[0] = first.mean_update.float()
    planted[1] = 0
    planted[2] *= 30
    second = _round(measures, run, finish, planted, refused=(3,))
    assert len(second.record["gates"]) == 4
    for name in EVERYTHING.measures:
        assert _scores(second, name)[:4] == [0.0] * 4
        assert _scores(second, name)[4] != 0
    assert measures.remarks() == [
        *("replay in 1 round", "null in 1 round", "scaled in 1 round", "non-finite in 1 round", "")
    ]
    third = _round(measures, run, finish, planted)
    assert any(sentence.startswith("b sent next to nothing") for sentence in third.record["gates"])
    assert measures.remarks()[1] == "null in 2 rounds"


def test_a_round_of_which_nothing_is_left_is_worth_nothing(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    for refused in ((), (0, 1, 2, 3)):
        measures = Measures(run, EVERYTHING, paid_by="standalone")
        result = _round(measures, run, finish, 0 * honest, refused=refused)
        assert len(result.record["gates"]) == 5
        assert all(_scores(result, name) == [0.0] * 5 for name in EVERYTHING.measures)


def test_without_gates_a_replay_is_paid_best(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(gates=False), paid_by="standalone")
    first = _round(measures, run, finish, honest)
    again = honest + 0.3 * honest.roll(1, dims=1)
    again[0] = first.mean_update.float()
    second = _round(measures, run, finish, again)
    assert max(_scores(second, "cosine")) == _scores(second, "cosine")[0]
    assert second.record["gates"] == []
    assert measures.remarks() == [""] * 5


def test_clones_are_one_participant_and_share_its_value(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    run.samples = [60, 40, 20, 50, 50]
    honest[1] = 0.5 * honest[0]
    result = _round(Measures(run, EVERYTHING, paid_by="standalone"), run, finish, honest)
    (sentence,) = result.record["gates"]
    assert sentence.startswith("a, b sent the same update")
    whole = honest[[0, 2, 3, 4]]
    assert _scores(result, "cosine")[:2] == pytest.approx([update_cosines(whole, result.mean_update)[0].item() / 2] * 2)
    for name in EVERYTHING.measures:
        assert _scores(result, name)[0] == _scores(result, name)[1]


def test_the_measures_go_on_from_their_state(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    start = run.parameters.clone()
    whole = Measures(run, EVERYTHING, paid_by="standalone")
    rounds = [honest, honest.roll(1, dims=1), honest.roll(1, dims=1), honest.roll(2, dims=1)]
    for updates in rounds:
        _round(whole, run, finish, updates)
    run.parameters.copy_(start)
    first, second = (Measures(run, EVERYTHING, paid_by="standalone") for _ in range(2))
    for updates in rounds[:2]:
        _round(first, run, finish, updates)
    second.load_state_dict(first.state_dict())
    for updates in rounds[2:]:
        _round(second, run, finish, updates)
    assert second.state_dict()["totals"] == whole.state_dict()["totals"]
    assert second.remarks() == whole.remarks()
    torch.testing.assert_close(second.state_dict()["previous"], whole.state_dict()["previous"], rtol=0, atol=0)


def test_measures_that_cannot_be_taken_are_refused(run: Collaboration) -> None:
    with pytest.raises(InputError, match="twice"):
        Assessment(measures=("fedsv", "fedsv"))
    state = Measures(run, Assessment(), paid_by="standalone").state_dict()
    with pytest.raises(InputError, match="'alignment' was not taken"):
        Measures(run, Assessment(), paid_by="alignment").load_state_dict(state)
    run.samples *= 3
    run.data.participants = 15
    with pytest.raises(InputError, match="participants_per_round"):
        Measures(run, Assessment(("banzhaf",)), paid_by="standalone")


def test_nothing_of_the_model_is_changed_by_measuring(run: Collaboration, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, EVERYTHING, paid_by="standalone")
    measures.start_round(run)
    result = finish(honest)
    run.load_server_parameters()
    before = parameters_to_vector(run.classifier.parameters()).clone()
    measures.end_round(run, result)
    assert torch.equal(parameters_to_vector(run.classifier.parameters()), before)
