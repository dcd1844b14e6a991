import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from aequa_lightning.callbacks.assessment.evidence import head_positions
from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve
from aequa_lightning.callbacks.payout.reward_files import describe_allocation, describe_frontier, describe_uncertainty
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.rewards import Resampled, allocate_widths, pareto_front


def test_intervals_hold_nine_tenths_and_widths_that_were_drawn() -> None:
    figures = np.linspace(0, 1, 1001)
    widths = np.where(figures < 0.1, 0.25, np.where(figures < 0.8, 0.5, 1.0))
    content = describe_uncertainty(Resampled(figures, 2 * figures, np.full(1001, np.nan), widths[:, None]), ["a"])
    assert content is not None
    assert content["mcg"] == pytest.approx([0.05, 0.95])
    assert content["cgs"] == pytest.approx([0.1, 1.9])
    assert content["pearson"] is None
    (person,) = content["participants"]
    assert person["width"] == [0.25, 1.0]
    assert person["shares"] == pytest.approx({"0.25": 0.1, "0.5": 0.7, "1.0": 0.2}, abs=0.002)
    assert describe_uncertainty(None, ["a"]) is None


def test_the_front_stands_beside_what_was_chosen() -> None:
    front = pareto_front([0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9})
    content = describe_frontier(front, {"mcg": 0.3, "cgs": 0.0, "slope": 1.0})
    assert content["chosen"] == {"mcg": 0.3, "cgs": 0.0}
    assert content["front"][0] == {"mcg": pytest.approx(0.3), "cgs": pytest.approx(0), "widths": [0.25, 0.5, 1.0]}


def test_marked_samples_add_up_to_the_accuracy(run: Run) -> None:
    part = run.data.validation()
    accuracies = run.evaluator.values([0.5, 1.0], part)
    correct = [scored.statistics[:, 0] for scored in run.evaluator.scores([0.5, 1.0], part)]
    assert [marks.mean().item() for marks in correct] == pytest.approx(list(accuracies.values()))
    inputs, targets = part.tensors
    with torch.no_grad():
        assert torch.equal(correct[1].bool(), run.classifier(inputs).argmax(-1) == targets)


def test_the_last_layer_is_found_by_its_rows() -> None:
    network = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    assert head_positions(network, 2).tolist() == [[12, 13, 14], [15, 16, 17]]
    with pytest.raises(InputError, match="each of the 7 classes"):
        head_positions(network, 7)


def test_gains_are_over_what_each_reaches_alone_whatever_is_paid_for() -> None:
    contributions, curve = [1.0, 4.0, 9.0], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}
    allocation = allocate_widths(contributions, curve, "proportional")
    alone, alone_test, received_test = [0.3, 0.65, 0.6], [0.31, 0.5, 0.62], [0.58, 0.71, 0.92]
    content = describe_allocation(
        7,
        ["a", "b", "c"],
        contributions,
        allocation,
        MeasuredCurve(curve),
        standalone=alone,
        standalone_test=alone_test,
        received_test=received_test,
        held=[None, {"validation_accuracy": 0.95, "round": 4, "width": 1.0}, None],
    )
    kept = np.maximum(allocation.accuracies, [0.0, 0.95, 0.0])
    expected = {"mcg": np.mean(kept - alone), "cgs": np.std(kept - alone), "minimum_gain": min(kept - alone)}
    assert content["held"] == pytest.approx(expected | {"pearson": stats.pearsonr(contributions, kept).statistic})
    gains = allocation.accuracies - alone
    figures = [content[key] for key in ("mcg", "cgs", "minimum_gain")]
    assert figures == pytest.approx([gains.mean(), gains.std(), gains.min()])
    assert content["pearson"] == pytest.approx(stats.pearsonr(contributions, allocation.accuracies).statistic)
    assert content["pearson_test"] == pytest.approx(stats.pearsonr(alone_test, received_test).statistic)
    people = content["participants"]
    assert [person["name"] for person in people] == ["a", "b", "c"]
    for key, expected in (
        ("contribution", contributions),
        ("accuracy", allocation.accuracies),
        ("gain", gains),
        ("standalone_test", alone_test),
        ("test_accuracy", received_test),
    ):
        np.testing.assert_array_equal([person[key] for person in people], expected)
