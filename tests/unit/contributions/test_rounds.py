import json

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from aequa_lightning.contributions import (
    CFFLReputation,
    MovingAverage,
    RFFLReputation,
    RunningSum,
    accuracy,
    balanced_accuracy,
    class_cosines,
    coalition_weights,
    data_shares,
    gradient_alignment,
    loss_likeness,
    model_evaluator,
    negative_log_loss,
    round_game,
    series_divergence,
    shapley_values,
)
from aequa_lightning.contributions.semivalues import all_coalitions
from aequa_lightning.errors import InputError


def quadratic(models):
    """A worth with a maximum at (1, 1, ...): updates can overshoot and help or hurt each other."""
    return -(models - 1).square().sum(dim=1)


@pytest.fixture
def one_round():
    generator = torch.Generator().manual_seed(0)
    updates = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    updates[2] = 0
    weights = torch.rand(5, generator=generator, dtype=torch.float64)
    return torch.zeros(4, dtype=torch.float64), updates, weights / weights.sum()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_coalitions_apply_just_their_own_updates(one_round, batch_size):
    base, updates, weights = one_round
    coalitions = all_coalitions(5)
    worth = round_game(base, updates, weights, quadratic, batch_size=batch_size)(coalitions)
    for row, value in zip(coalitions, worth, strict=True):
        model = base + sum((weights[i] * updates[i] for i in range(5) if row[i]), torch.zeros(4))
        assert value == pytest.approx(quadratic(model[None]).item(), abs=1e-12)


def test_coalitions_value_a_null_update_at_nothing(one_round):
    assert shapley_values(round_game(*one_round, quadratic), 5)[2] == pytest.approx(0, abs=1e-12)


def test_models_are_evaluated_without_touching_the_module():
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    inputs, labels = torch.randn(20, 6), torch.randint(0, 3, (20,))
    models = torch.randn(4, sum(parameter.numel() for parameter in module.parameters()))
    worth = model_evaluator(module, inputs, labels, negative_log_loss)(models)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    for flat, value in zip(models, worth, strict=True):
        torch.nn.utils.vector_to_parameters(flat, module.parameters())
        assert value.item() == pytest.approx(negative_log_loss(module(inputs), labels).item(), rel=1e-6)


def test_coalitions_refuse_negative_weights(one_round):
    _, _, weights = one_round
    with pytest.raises(InputError, match="negative"):
        coalition_weights(all_coalitions(5), -weights)


def test_gradient_alignment_is_the_first_order_change_of_the_loss(one_round):
    base, updates, weights = one_round
    point = base.clone().requires_grad_()
    loss = -quadratic(point[None])[0]
    (gradient,) = torch.autograd.grad(loss, point)
    predicted = gradient_alignment(updates @ gradient, weights)
    for i in range(5):
        step = 1e-7 * weights[i] * updates[i]
        change = (-quadratic((base + step)[None])[0] - loss.detach()).item() / 1e-7
        assert predicted[i].item() == pytest.approx(-change, abs=1e-4)


def test_class_cosines_look_at_each_class_alone():
    generator = torch.Generator().manual_seed(1)
    updates, aggregate = torch.randn(4, 3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    updates[0, 1] = 0
    cosines = class_cosines(updates, aggregate)
    expected = torch.nn.functional.cosine_similarity(updates.double(), aggregate.double()[None], dim=-1)
    assert torch.allclose(cosines, expected, atol=1e-12)
    assert cosines[0, 1] == 0
    with pytest.raises(InputError, match="do not fit"):
        class_cosines(updates, aggregate[0])


def test_utilities_agree_with_scikit_learn():
    from sklearn import metrics

    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(2, 50, 4, generator=generator)
    labels = torch.randint(0, 3, (50,), generator=generator)  # class 3 never occurs
    for model in range(2):
        predicted = logits[model].argmax(dim=1).clamp(max=2)
        logits[model, logits[model].argmax(dim=1) == 3, 3] = -9
        predicted = logits[model].argmax(dim=1)
        assert accuracy(logits, labels)[model].item() == pytest.approx(metrics.accuracy_score(labels, predicted))
        expected = metrics.balanced_accuracy_score(labels, predicted)
        assert balanced_accuracy(logits, labels)[model].item() == pytest.approx(expected)
        loss = metrics.log_loss(labels, logits[model].double().softmax(dim=1), labels=range(4))
        assert negative_log_loss(logits, labels)[model].item() == pytest.approx(-loss, rel=1e-6)


def test_log_loss_of_a_confident_error_is_bounded():
    logits = torch.tensor([[1000.0, 0.0]])
    assert negative_log_loss(logits, torch.tensor([1])).item() == pytest.approx(np.log(1e-7))
    with pytest.raises(InputError, match="do not fit"):
        accuracy(logits, torch.tensor([0, 1]))


def test_moving_average_starts_at_the_first_score_and_survives_a_restart():
    average = MovingAverage(3, decay=0.9)
    average.update(torch.tensor([1.0, 3.0]), [0, 2])
    restarted = MovingAverage(3)
    restarted.load_state_dict(json.loads(json.dumps(average.state_dict())))
    values = restarted.update(torch.tensor([0.0, 2.0]), [0, 1])
    assert values.tolist() == pytest.approx([0.9, 2.0, 3.0])
    with pytest.raises(InputError, match="scores"):
        average.update(torch.tensor([1.0, float("nan"), 0.0]))
    with pytest.raises(InputError, match="decay"):
        MovingAverage(3, decay=1.5)


def test_running_sum_adds_rounds_and_survives_a_restart():
    total = RunningSum(3)
    total.update(torch.tensor([1.0, 2.0]), [2, 0])
    restarted = RunningSum(3)
    restarted.load_state_dict(json.loads(json.dumps(total.state_dict())))
    assert restarted.update(torch.tensor([1.0, 1.0, 1.0])).tolist() == [3.0, 1.0, 2.0]


def test_reputation_drops_the_lowest_for_good_after_the_warm_up():
    reputation = RFFLReputation(4, decay=0.5, threshold=0.5, warm_up=1)
    scores = torch.tensor([0.4, 0.35, 0.2, 0.05], dtype=torch.float64)
    assert reputation.update(scores).tolist() == pytest.approx(scores.tolist())
    assert reputation.remaining.all()
    values = reputation.update(scores)
    assert reputation.remaining.tolist() == [True, True, True, False]
    assert values.tolist() == pytest.approx([0.4 / 0.95, 0.35 / 0.95, 0.2 / 0.95, 0.0])
    restarted = RFFLReputation(4, decay=0.5, threshold=0.5, warm_up=1)
    restarted.load_state_dict(json.loads(json.dumps(reputation.state_dict())))
    assert restarted.update(torch.tensor([0.0, 0.0, 0.0, 9.0])).tolist() == pytest.approx(values.tolist())


def test_who_is_absent_keeps_its_reputation():
    reputation = RFFLReputation(4, decay=0.5, threshold=0.9, warm_up=0)
    # Half of them share half of the whole; the others have an equal part each until they are seen.
    values = reputation.update(torch.tensor([0.3, 0.2]), [0, 2])
    assert values.tolist() == pytest.approx([0.3 / 0.8, 0.25 / 0.8, 0.0, 0.25 / 0.8])
    assert reputation.remaining.tolist() == [True, True, False, True]
    values = reputation.update(torch.tensor([0.5]), [1])
    # The newcomer's score is smoothed with the equal part that it had.
    assert values.tolist() == pytest.approx([0.375 / 1.09375, 0.40625 / 1.09375, 0.0, 0.3125 / 1.09375])
    assert reputation.seen.tolist() == [True, True, True, False]


def test_reputation_never_drops_everybody():
    reputation = RFFLReputation(3, decay=0.5, threshold=0.9, warm_up=0)
    assert reputation.update(torch.tensor([-1.0, -1.0, -1.0])).tolist() == pytest.approx([1 / 3] * 3)
    assert reputation.remaining.all()


def test_rffl_lets_a_harmful_participant_go_below_nothing():
    reputation = RFFLReputation(3)
    assert reputation.values.tolist() == [0.0] * 3
    # The source begins at 0, so that .05 of each score is scaled to sum 1: 1 / 1.2, .6 / 1.2, -.4 / 1.2.
    assert reputation.update(torch.tensor([1.0, 0.6, -0.4])).tolist() == pytest.approx([5 / 6, 0.5, -1 / 3])
    smoothed = [0.95 * 5 / 6 + 0.05, 0.95 * 0.5 + 0.05, -0.95 / 3 + 0.05]
    expected = [value / sum(smoothed) for value in smoothed]
    assert reputation.update(torch.tensor([1.0, 1.0, 1.0])).tolist() == pytest.approx(expected)


def test_the_reputation_of_cffl_is_smoothed_and_then_raised_ever_more():
    reputation = CFFLReputation(3, 2)
    accuracies = torch.tensor([0.9, 0.6, 0.5])
    # In the first round sinh(5 * .2 a / 2), in the second sinh(7.5 (.8 r + .2 a / 2)).
    first = np.sinh(np.array([0.9, 0.6, 0.5]) / 2)
    assert reputation.update(accuracies).tolist() == pytest.approx((first / first.sum()).tolist())
    second = np.sinh(7.5 * (0.8 * first / first.sum() + 0.1 * np.array([0.9, 0.6, 0.5])))
    assert reputation.update(accuracies).tolist() == pytest.approx((second / second.sum()).tolist())
    # Below a third of an equal part one is out for good, and shares of accuracy are those of the others.
    reputation = CFFLReputation(3, 100)
    left = np.append(np.sinh([0.9 / 1.6, 0.6 / 1.6]), 0.0)
    assert reputation.update(torch.tensor([0.9, 0.6, 0.1])).tolist() == pytest.approx((left / left.sum()).tolist())
    left = np.sinh(5.05 * (0.8 * left / left.sum() + 0.2 * np.array([0.6, 0.4, 0.0])))
    assert reputation.update(torch.tensor([0.6, 0.4, 0.9])).tolist() == pytest.approx((left / left.sum()).tolist())
    assert CFFLReputation(4, 1).update(torch.zeros(4)).tolist() == [0.25] * 4
    with pytest.raises(InputError, match="negative"):
        CFFLReputation(2, 1).update(torch.tensor([-0.1, 0.5]))


def test_likeness_of_losses_is_one_over_their_divergence():
    own, servers = [1.0, 2.0, 5.0, 9.0], [2.0, 2.0, 4.0]
    assert series_divergence(own, servers) == pytest.approx(entropy(own[:3], servers))
    assert series_divergence([1.0], servers) == np.inf
    assert loss_likeness([0.4, 0.1, np.inf]).tolist() == pytest.approx([0.25, 1.0, 0.0])
    assert loss_likeness([np.inf, np.inf]).tolist() == [1.0, 1.0]


def test_data_shares_refuse_nonsense():
    assert data_shares([1, 0, 3]).tolist() == [0.25, 0, 0.75]
    for bad in ([], [0, 0], [-1, 2], [np.nan, 1]):
        with pytest.raises(InputError, match="samples"):
            data_shares(bad)
