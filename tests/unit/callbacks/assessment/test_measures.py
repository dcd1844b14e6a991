"""The measures of a round against their definitions, and what the gates do about planted updates."""

import copy
import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from lightning.fabric import Fabric
from scipy.integrate import quad
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import TensorDataset

from aequa_lightning.callbacks.assessment import valuation
from aequa_lightning.callbacks.assessment.measures import Assessment, Measures
from aequa_lightning.callbacks.assessment.valuation import validation_gradient
from aequa_lightning.contributions import accuracy, games
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import Classification

Finish = Callable[..., RoundResult]
MEASURES = (
    *("cosine", "class_cosine", "alignment", "fedsv", "banzhaf", "beta_shapley", "loo", "gtg_shapley", "cffl", "rffl"),
    *("fedave", "local_accuracy"),
)
EVERYTHING = Assessment(measures=MEASURES)


def _round(
    measures: Measures, run: Run, finish: Finish, updates: Tensor, *, refused: tuple[int, ...] = ()
) -> RoundResult:
    measures.start_round(run)
    accepted = [index for index in range(len(updates)) if index not in refused]
    run.server.updates = {index: updates[index] for index in accepted}
    result = finish(updates, refused=refused, left_out=measures.screen_round(run, accepted, refused))
    measures.end_round(run, result)
    return result


def _cosines(updates: Tensor, aggregate: Tensor) -> list[float]:
    found: list[float] = functional.cosine_similarity(updates.double(), aggregate.double()[None], dim=1).tolist()
    return found


def _scores(result: RoundResult, name: str) -> list[float]:
    return [row[name] for row in result.record["participants"]]


def _normalised_sum(updates: Tensor, result: RoundResult) -> Tensor:
    """Return the sum of updates of one length by their weights, with which cosines are taken in the first round."""
    weights = torch.tensor([result.weights.get(index, 0.0) for index in range(len(updates))])
    return (weights[:, None] * functional.normalize(updates, dim=1)).sum(dim=0)


def test_cosines_are_those_with_the_mean_of_unit_updates(run: Run, honest: Tensor, finish: Finish) -> None:
    for gates in (True, False):
        result = _round(Measures(run, Assessment(gates=gates), paid_by="standalone"), run, finish, honest)
        assert _scores(result, "cosine") == pytest.approx(_cosines(honest, _normalised_sum(honest, result)))


def test_a_narrow_participant_is_compared_over_what_it_holds(run: Run, honest: Tensor, finish: Finish) -> None:
    run.progress.widths = [1.0, 0.5, 1.0, 1.0, 1.0]
    held = run.masks.mask(0.5)
    honest[1] *= held
    result = _round(Measures(run, Assessment(("class_cosine",)), paid_by="cosine"), run, finish, honest)
    # What it does not hold is the mean of the others.
    weights = torch.tensor([result.weights[index] for index in range(5)])
    aggregate = _normalised_sum(honest, result) / torch.where(held, 1.0, 1 - weights[1])
    assert _scores(result, "cosine")[1] == pytest.approx(_cosines(honest[1:2, held], aggregate[held])[0])
    # Rows of the last layer: ten classes with four of the eight units held, and a bias each.
    weight, bias = honest[1, -90:-10].view(10, 8)[:, :4], honest[1, -10:]
    # In the first round all count alike.
    mean = honest.mean(dim=0)
    mean_weight, mean_bias = mean[-90:-10].view(10, 8)[:, :4], mean[-10:]
    rows, means = torch.cat([weight, bias[:, None]], 1), torch.cat([mean_weight, mean_bias[:, None]], 1)
    expected = functional.cosine_similarity(rows.double(), means.double(), dim=1).mean().item()
    assert _scores(result, "class_cosine")[1] == pytest.approx(expected)


def _loss(run: Run, parameters: Tensor) -> float:
    network = copy.deepcopy(run.classifier.network.full).double().eval()
    vector_to_parameters(parameters, network.parameters())
    inputs, targets = run.data.validation().tensors
    with torch.no_grad():
        return functional.cross_entropy(network(inputs.double()), targets).item()


def test_alignment_is_the_slope_of_the_validation_loss(run: Run, honest: Tensor, finish: Finish) -> None:
    base = run.parameters.double()
    result = _round(Measures(run, EVERYTHING, paid_by="standalone"), run, finish, honest)
    for index, score in enumerate(_scores(result, "alignment")):
        step = 1e-5 * result.weights[index] * honest[index]
        slope = (_loss(run, base + step) - _loss(run, base - step)) / 2e-5
        assert score == pytest.approx(-slope, rel=1e-3, abs=1e-6)


def test_recurrent_layers_have_a_gradient_on_gpus_too() -> None:
    """cuDNN has none in evaluation; without it torch computes one."""
    samples = TensorDataset(torch.ones(2, 3, 1), torch.tensor([0, 1]))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(1, 2, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            assert not torch.backends.cudnn.enabled
            states: Tensor = self.lstm(inputs)[0]
            return states[:, -1]

    network, task = Recurrent(), Classification()
    run = SimpleNamespace(
        load_server_parameters=lambda: None,
        evaluator=SimpleNamespace(calibrate=lambda width: None),
        classifier=SimpleNamespace(network=network, parameters=network.parameters, inputs=task.inputs, loss=task.loss),
        topology=Topology(Fabric(accelerator="cpu", devices=1)),
        data=SimpleNamespace(validation=lambda: samples),
        parameters=parameters_to_vector(network.parameters()),
    )
    assert validation_gradient(cast(Run, run)).abs().sum() > 0
    assert torch.backends.cudnn.enabled


def test_values_of_coalitions_are_those_of_their_definitions(run: Run, honest: Tensor, finish: Finish) -> None:
    base = run.parameters.clone()
    assessment = Assessment(measures=MEASURES[3:8], utility="accuracy")
    measures = Measures(run, assessment, paid_by="standalone")
    result = _round(measures, run, finish, honest)
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
    for index, score in enumerate(_scores(result, "loo")):
        assert score == pytest.approx(worths[frozenset(range(5))] - worths[frozenset(range(5)) - {index}])
    # Beta(4, 1): the others are there with probability q each, of density 4 (1 - q)^3.
    chances = [quad(lambda q, s=s: 4 * q**s * (1 - q) ** (7 - s), 0, 1)[0] for s in range(5)]
    for index, score in enumerate(_scores(result, "beta_shapley")):
        gains = [
            chances[len(members)] * (worths[members | {index}] - worths[members])
            for members in worths
            if index not in members
        ]
        assert score == pytest.approx(sum(gains))
    # GTG-Shapley is an estimate of the Shapley value; what an order leaves out is at most its tolerance.
    guided = zip(
        _scores(result, "gtg_shapley"), _scores(result, "fedsv"), _scores(result, "gtg_shapley_error"), strict=True
    )
    for estimate, exact, error in guided:
        assert error > 0
        assert abs(estimate - exact) < 4 * error + 1e-3
    assert measures.standard_errors() == {"gtg_shapley": pytest.approx(_scores(result, "gtg_shapley_error"))}


@pytest.mark.parametrize("name", ["fedsv", "banzhaf"])
def test_values_of_many_players_are_sampled_with_honest_errors(
    run: Run, honest: Tensor, finish: Finish, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "fedsv":
        pytest.importorskip("shapiq", reason="shapiq is not installed (the extra 'valuation')")
    base = run.parameters.clone()
    exact = _scores(_round(Measures(run, Assessment((name,)), paid_by="standalone"), run, finish, honest), name)
    monkeypatch.setattr(games, "EXACT_UP_TO", 4)
    measures = Measures(run, Assessment((name,), budget=150), paid_by="standalone")
    rounds = []
    for _ in range(2):
        run.parameters.copy_(base)
        rounds.append(_round(measures, run, finish, honest))
    total = torch.zeros(5, dtype=torch.float64)
    for result in rounds:
        errors = torch.tensor(_scores(result, f"{name}_error"))
        assert (errors > 0).any()
        assert ((torch.tensor(_scores(result, name)) - torch.tensor(exact)).abs() < 5 * errors + 0.02).all()
        total += errors**2
    # The rounds draw anew, and the error of their sum grows with the root of their number.
    assert _scores(rounds[0], name) != _scores(rounds[1], name)
    assert measures.standard_errors()[name] == pytest.approx(total.sqrt().tolist())


def test_reputations_are_those_of_the_first_round(run: Run, honest: Tensor, finish: Finish) -> None:
    base, network = run.parameters.clone(), run.classifier.network.full
    run.standalone = None
    measures = Measures(run, Assessment(("cosine", "cffl", "rffl")), paid_by="standalone")
    result = _round(measures, run, finish, honest)
    inputs, targets = run.data.validation().tensors
    own = []
    for update in honest:
        vector_to_parameters(base + update, network.parameters())
        own.append(accuracy(network(inputs), targets).item())
    assert _scores(result, "cffl") == pytest.approx(own)
    raised = [math.sinh(each / sum(own)) for each in own]
    assert measures.values(run)["cffl"] == pytest.approx([each / sum(raised) for each in raised])
    # All of them are longer than a half, so that they are shortened to it.
    assert _scores(result, "rffl") == pytest.approx(_scores(result, "cosine"))
    cosines = _scores(result, "rffl")
    assert measures.values(run)["rffl"] == pytest.approx([each / sum(cosines) for each in cosines])


def test_what_the_gates_catch_can_stay_out_of_the_average(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(MEASURES, exclude_flagged=True), paid_by="standalone")
    first = _round(measures, run, finish, honest)
    assert list(first.weights) == [0, 1, 2, 3, 4]
    planted = honest.roll(1, dims=1)
    planted[0] = first.mean_update.float()
    planted[1] = 0
    planted[4] = planted[2]
    second = _round(measures, run, finish, planted)
    # The replay and the zero update are out, and so is the second of two clones.
    assert list(second.weights) == [2, 3]
    told = [sentence for sentence in second.record["gates"] if "stayed out" in sentence]
    assert told == [f"{name} stayed out of the average" for name in "abe"]
    assert measures.remarks()[0] == "kept out of the average in 1 round; replay in 1 round"
    for name in MEASURES:
        scores = _scores(second, name)
        assert scores[:2] == [0.0, 0.0]
        assert scores[2] == scores[4]


def test_an_update_that_stays_out_leaves_no_trace_in_the_server(run: Run, honest: Tensor) -> None:
    run.server.forget_updates()
    run.server.receive([0, 1], honest[:2])
    run.server.receive([2, 3, 4], honest[2:])
    mean, _ = run.server.combine({0: 0.2, 2: 0.2, 4: 0.2}, run.widths)
    run.server.forget_updates()
    for index in (4, 2, 0):
        run.server.receive([index], honest[[index]])
    alone, _ = run.server.combine({0: 0.2, 2: 0.2, 4: 0.2}, run.widths)
    assert torch.equal(mean, alone)
    torch.testing.assert_close(mean, honest[[0, 2, 4]].double().mean(dim=0))


def test_a_round_of_which_nothing_is_left_is_worth_nothing(run: Run, honest: Tensor, finish: Finish) -> None:
    for refused in ((), (0, 1, 2, 3)):
        measures = Measures(run, replace(EVERYTHING, exclude_flagged=False), paid_by="standalone")
        result = _round(measures, run, finish, 0 * honest, refused=refused)
        assert len(result.record["gates"]) == 5
        assert all(_scores(result, name) == [0.0] * 5 for name in EVERYTHING.measures)


def test_without_gates_a_replay_is_paid_best(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(gates=False), paid_by="standalone")
    first = _round(measures, run, finish, honest)
    again = honest + 0.3 * honest.roll(1, dims=1)
    again[0] = first.mean_update.float()
    second = _round(measures, run, finish, again)
    assert max(_scores(second, "cosine")) == _scores(second, "cosine")[0]
    assert second.record["gates"] == []
    assert measures.remarks() is None


def test_clones_are_one_participant_that_is_paid_once(run: Run, honest: Tensor, finish: Finish) -> None:
    run.samples = [60, 40, 20, 50, 50]
    honest[1] = 0.5 * honest[0]
    measures = Measures(run, replace(EVERYTHING, exclude_flagged=False), paid_by="standalone")
    result = _round(measures, run, finish, honest)
    (sentence,) = result.record["gates"]
    assert sentence.startswith("a, b sent the same update")
    # Both point the same way, with their joint weight.
    expected = _cosines(honest[:1], _normalised_sum(honest, result))[0]
    assert _scores(result, "cosine")[:2] == pytest.approx([expected] * 2)
    for name in EVERYTHING.measures:
        assert _scores(result, name)[0] == _scores(result, name)[1]
        values = measures.values(run)[name]
        assert measures.paid(run, name) == pytest.approx([*[value / 2 for value in values[:2]], *values[2:]])


def test_the_measures_go_on_from_their_state(run: Run, honest: Tensor, finish: Finish) -> None:
    start = run.parameters.clone()
    whole = Measures(run, EVERYTHING, paid_by="standalone")
    rounds = [honest, honest.roll(1, dims=1), honest.roll(1, dims=1), honest.roll(2, dims=1)]
    for updates in rounds:
        _round(whole, run, finish, updates)
    run.parameters.copy_(start)
    run.progress.round = 0
    first, second = (Measures(run, EVERYTHING, paid_by="standalone") for _ in range(2))
    for updates in rounds[:2]:
        _round(first, run, finish, updates)
    second.load_state_dict(first.state_dict())
    for updates in rounds[2:]:
        _round(second, run, finish, updates)
    assert second.state_dict()["totals"] == whole.state_dict()["totals"]
    assert second.standard_errors() == whole.standard_errors()
    assert list(whole.standard_errors()) == ["gtg_shapley"]
    assert second.remarks() == whole.remarks()
    torch.testing.assert_close(second.state_dict()["detector"], whole.state_dict()["detector"], rtol=0, atol=0)


def test_measures_that_cannot_be_taken_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="twice"):
        Assessment(measures=("fedsv", "fedsv"))
    state = Measures(run, Assessment(), paid_by="standalone").state_dict()
    with pytest.raises(InputError, match="'alignment' was not taken"):
        Measures(run, Assessment(), paid_by="alignment").load_state_dict(state)
    run.samples *= 3
    run.data.participants = 15
    with pytest.raises(InputError, match="participants_per_round"):
        Measures(run, Assessment(("beta_shapley",), gates=False), paid_by="standalone")
    with pytest.raises(InputError, match="budget=149 is too small"):
        Measures(run, Assessment(("banzhaf",), gates=False, budget=149), paid_by="standalone")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="shapiq, which is not installed"):
        Measures(run, Assessment(("fedsv",), gates=False), paid_by="standalone")
    with pytest.raises(InputError, match="set gates to true"):
        Assessment(gates=False, exclude_flagged=True)


def test_nothing_of_the_model_is_changed_by_measuring(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, EVERYTHING, paid_by="standalone")
    measures.start_round(run)
    measures.screen_round(run, [], [])
    result = finish(honest)
    run.load_server_parameters()
    before = parameters_to_vector(run.classifier.parameters()).clone()
    measures.end_round(run, result)
    assert torch.equal(parameters_to_vector(run.classifier.parameters()), before)


def test_the_class_wise_cosine_is_a_moving_average(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(("class_cosine",)), paid_by="standalone")
    first, second = (
        torch.tensor(_scores(_round(measures, run, finish, updates), "class_cosine"))
        for updates in (honest, honest.roll(1, dims=1))
    )
    assert measures.values(run)["class_cosine"] == pytest.approx((0.9 * first + 0.1 * second).tolist())


def test_nobody_leaves_rffl_in_the_first_ten_rounds(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(("rffl",), gates=False), paid_by="standalone")
    honest[0] = -honest[0]
    for number in range(1, 13):
        _round(measures, run, finish, honest)
        remaining = measures.state_dict()["totals"]["rffl"]["remaining"]
        assert remaining == [number <= 10, True, True, True, True]


def test_an_absent_participant_keeps_its_standing_and_a_caught_one_does_not(
    run: Run, honest: Tensor, finish: Finish
) -> None:
    measures = Measures(run, Assessment(("class_cosine",)), paid_by="standalone")
    before = _scores(_round(measures, run, finish, honest), "class_cosine")
    # The second's update is not finite; the third one was never asked.
    measures.start_round(run)
    run.server.updates = {index: honest[index].roll(1) for index in (0, 3, 4)}
    assert not measures.screen_round(run, [0, 3, 4], [1])
    result = finish(honest.roll(1, dims=1), refused=(1, 2))
    measures.end_round(run, result)
    values = measures.values(run)["class_cosine"]
    assert values[1] == pytest.approx(0.9 * before[1])
    assert values[2] == pytest.approx(before[2])


def test_whoever_never_took_part_is_worth_nothing(run: Run, honest: Tensor, finish: Finish) -> None:
    measures = Measures(run, Assessment(("class_cosine",), gates=False), paid_by="standalone")
    _round(measures, run, finish, honest, refused=(3,))
    assert measures.values(run)["class_cosine"][3] == 0


def test_a_long_update_of_much_work_passes_and_one_of_little_does_not(run: Run, honest: Tensor, finish: Finish) -> None:
    honest[0] *= 20
    run.samples = [32 * 20, 32, 32, 32, 32]
    assert _round(Measures(run, Assessment(), paid_by="cosine"), run, finish, honest).record["gates"] == []
    run.samples = [32] * 5
    told, left_out = _round(Measures(run, Assessment(), paid_by="cosine"), run, finish, honest).record["gates"]
    assert told.startswith("a sent an update far longer than its work explains")
    assert left_out == "a stayed out of the average"


def test_who_sends_the_last_aggregate_back_is_found_among_those_who_are_left(
    run: Run, honest: Tensor, finish: Finish
) -> None:
    measures = Measures(run, Assessment(), paid_by="standalone")
    first = _round(measures, run, finish, honest)
    planted = honest.roll(1, dims=1)
    planted[4] = first.mean_update.float()
    _round(measures, run, finish, planted, refused=(0, 1))
    remarks = measures.remarks()
    assert remarks is not None
    assert remarks == [
        *["non-finite in 1 round"] * 2,
        *["", "", "kept out of the average in 1 round; replay in 1 round"],
    ]


def test_steps_are_valued_as_far_as_they_moved_what_few_hold(run: Run, honest: Tensor, finish: Finish) -> None:
    """Of what only the first holds, its own update is the average; so is it where the others are refused."""
    run.progress.widths = [1.0, 0.5, 0.5, 0.5, 0.5]
    honest[1:] *= run.masks.mask(0.5)
    base = run.parameters.clone()
    measures = Measures(run, Assessment(("alignment", "loo"), utility="accuracy"), paid_by="standalone")
    gradient = validation_gradient(run)
    result = _round(measures, run, finish, honest, refused=(4,))
    weights = torch.tensor([result.weights[index] for index in range(4)], dtype=torch.float64)
    held = torch.stack([run.masks.mask(width) for width in run.widths[:4]]).double()
    steps = weights[:, None] * honest[:4].double() / (weights @ held)
    steps = steps * held
    assert _scores(result, "alignment")[:4] == pytest.approx((-steps @ gradient).tolist())
    network = run.classifier.network.full.eval()
    inputs, targets = run.data.validation().tensors

    def worth(moved: Tensor) -> float:
        vector_to_parameters((base + moved).float(), network.parameters())
        return accuracy(network(inputs), targets).item()

    whole = worth(steps.sum(dim=0))
    assert _scores(result, "loo")[:4] == pytest.approx([whole - worth(steps.sum(dim=0) - step) for step in steps])


def test_of_a_round_of_chance_everybody_may_be_a_player(run: Run) -> None:
    run.samples *= 3
    run.data.participants = 15
    run.config = replace(run.config, participants_per_round=5)
    Measures(run, Assessment(("beta_shapley",), gates=False), paid_by="standalone")
    run.config = replace(run.config, participation=Participation("poisson"))
    with pytest.raises(InputError, match="15 participants"):
        Measures(run, Assessment(("beta_shapley",), gates=False), paid_by="standalone")


def test_a_network_without_rows_of_classes_is_refused_before_any_round(run: Run) -> None:
    run.data.num_classes = 7
    with pytest.raises(InputError, match="each of the 7 classes"):
        Measures(run, Assessment(("class_cosine",)), paid_by="standalone")


def test_a_budget_limits_how_many_models_of_coalitions_are_evaluated(
    run: Run, honest: Tensor, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games, "EXACT_UP_TO", 4)
    # Evaluated one at a time, to be counted.
    monkeypatch.setattr(valuation, "MODELS", 1)
    seen: list[int] = []
    evaluate = valuation.model_evaluator

    def counting(*given: object) -> object:
        inner = evaluate(*given)  # type: ignore[arg-type]
        return lambda *words: seen.append(len(words[0])) or inner(*words)

    monkeypatch.setattr(valuation, "model_evaluator", counting)
    for budget in (60, 50):
        seen.clear()
        _round(Measures(run, Assessment(("banzhaf",), budget=budget), paid_by="standalone"), run, finish, honest)
        assert 0 < sum(seen) <= budget


def test_by_default_a_clone_counts_once_in_the_average_and_shares_what_it_reaches_alone(
    run: Run, honest: Tensor, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest[1] = 0.5 * honest[0]
    measures = Measures(run, Assessment(("alignment",)), paid_by="standalone")
    result = _round(measures, run, finish, honest)
    assert list(result.weights) == [0, 2, 3, 4]
    scores = _scores(result, "alignment")
    assert scores[0] == scores[1]
    monkeypatch.setattr(measures, "values", lambda run: {"standalone": [0.8] * 5})
    assert measures.paid(run, "standalone") == [0.4, 0.4, 0.8, 0.8, 0.8]


def test_who_keeps_sending_noise_is_not_paid(run: Run, honest: Tensor, finish: Finish) -> None:
    source = torch.Generator().manual_seed(3)
    measures = Measures(run, Assessment(), paid_by="standalone")
    for number in range(3):
        updates = honest.roll(number, dims=1)
        updates[2] = 0.1 * torch.randn(len(run.parameters), generator=source)
        result = _round(measures, run, finish, updates)
        assert 2 not in result.weights
    assert measures.unpaid == {2}
    remarks = measures.remarks()
    assert remarks is not None
    assert remarks[2] == "kept out of the average in 3 rounds; nothing new in 3 rounds; not paid"
    assert measures.paid(run, "cosine")[2] == 0


def test_gates_cannot_begin_in_the_middle_of_a_run(run: Run, honest: Tensor, finish: Finish) -> None:
    open_house = Measures(run, Assessment(gates=False), paid_by="standalone")
    _round(open_house, run, finish, honest)
    with pytest.raises(InputError, match="had no gates to compare with"):
        Measures(run, Assessment(), paid_by="standalone").load_state_dict(open_house.state_dict())
