import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from aequa_lightning.contributions.label_check import FALSE_ALARM, guessing_accuracy, is_worse_than_guessing


def draw(samples: int, *, classes: int = 10) -> Tensor:
    return torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(0))


def test_label_check_guesses_of_the_same_frequencies_reach_as_much_on_average() -> None:
    targets, predicted = draw(200), draw(200).clamp(max=3)
    orders = [predicted[torch.randperm(200, generator=torch.Generator().manual_seed(seed))] for seed in range(2000)]
    reached = torch.stack([(order == targets).double().mean() for order in orders]).mean()
    assert guessing_accuracy(predicted, targets) == pytest.approx(float(reached), abs=2e-3)


@pytest.mark.parametrize("known", range(10))
def test_label_check_who_knows_one_class_only_is_honest(known: int) -> None:
    targets = draw(300)
    always = torch.full_like(targets, known)
    accuracy = float((always == targets).double().mean())
    assert guessing_accuracy(always, targets) == pytest.approx(accuracy)
    assert not is_worse_than_guessing(accuracy, guessing_accuracy(always, targets), 300)


def test_label_check_flipped_labels_are_found() -> None:
    targets = draw(300)
    predicted = 9 - targets
    accuracy = float((predicted == targets).double().mean())
    assert is_worse_than_guessing(accuracy, guessing_accuracy(predicted, targets), 300)


@pytest.mark.parametrize("right", range(40))
def test_label_check_is_a_one_sided_binomial_test(right: int) -> None:
    expected = binomtest(right, 287, 0.1, alternative="less").pvalue < FALSE_ALARM
    assert is_worse_than_guessing(right / 287, 0.1, 287) == expected
