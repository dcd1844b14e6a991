"""Scores and losses of the ready tasks, against scikit-learn and against one network at a time."""

from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score, r2_score
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.modules import (
    SlimmableClassifier,
    SlimmableLanguageModel,
    SlimmableModule,
    SlimmableMultiLabelClassifier,
    SlimmableRegressor,
    SlimmableSegmenter,
)

RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


def classes(count: int, *shape: int) -> Tensor:
    return torch.randint(count, shape, generator=RANDOM)


def score_of(module: SlimmableModule, outputs: Tensor, targets: Tensor) -> float:
    """Return the score over batches of unequal sizes."""
    return module.scorer.measure([(o, (o, t)) for o, t in zip(outputs.split(7), targets.split(7), strict=True)]).value


def classifier(**options: Any) -> SlimmableClassifier:
    return SlimmableClassifier(3, (4,), backbone="mlp", widths=(1.0, 0.5), **options)


def regressor(count: int = 1) -> SlimmableRegressor:
    return SlimmableRegressor(count, (4,), backbone="mlp", widths=(1.0, 0.5))


def multi_label() -> SlimmableMultiLabelClassifier:
    return SlimmableMultiLabelClassifier(3, (4,), backbone="mlp", widths=(1.0, 0.5))


def segmenter() -> SlimmableSegmenter:
    options: dict[str, Any] = {"backbone": "unet", "backbone_options": {"channels": 4}, "widths": (1.0, 0.5)}
    return SlimmableSegmenter(3, (1, 8, 8), **options)


def language_model(**options: Any) -> SlimmableLanguageModel:
    small = {"embedding": 8, "depth": 1, "heads": 2}
    widths = (1.0, 0.5)
    return SlimmableLanguageModel(
        5, (6,), vocabulary_size=5, backbone="gpt", backbone_options=small, widths=widths, **options
    )


def test_classification_by_balanced_accuracy_and_by_macro_f1() -> None:
    logits, targets = normal(60, 3), classes(3, 60)
    predicted = logits.argmax(1)
    balanced = balanced_accuracy_score(targets, predicted)
    assert score_of(classifier(score="balanced_accuracy"), logits, targets) == pytest.approx(balanced)
    macro = f1_score(targets, predicted, average="macro")
    assert score_of(classifier(score="macro_f1"), logits, targets) == pytest.approx(macro)
    with pytest.raises(InputError, match=r"model\.score='auroc' is unknown"):
        classifier(score="auroc")


def test_r_squared_of_one_number_and_of_several_and_never_below_0() -> None:
    targets = normal(60)
    outputs = targets + 0.5 * normal(60)
    assert score_of(regressor(), outputs[:, None], targets) == pytest.approx(r2_score(targets, outputs))
    several = normal(60, 2)
    near = several + 0.5 * normal(60, 2)
    assert score_of(regressor(2), near, several) == pytest.approx(r2_score(several, near))
    assert score_of(regressor(), -outputs[:, None], targets) == 0


def test_macro_f1_of_labels() -> None:
    logits, labels = normal(60, 3), classes(2, 60, 3).float()
    expected = f1_score(labels, logits > 0, average="macro")
    assert score_of(multi_label(), logits, labels) == pytest.approx(expected)


def test_mean_iou_of_pixels_that_count() -> None:
    logits, targets = normal(20, 3, 4, 4), classes(3, 20, 4, 4)
    targets[:, 0] = -100
    counted = targets >= 0
    expected = jaccard_score(targets[counted], logits.argmax(1)[counted], average="macro")
    assert score_of(segmenter(), logits, targets) == pytest.approx(expected)


def test_next_tokens_by_accuracy_and_by_likelihood() -> None:
    logits, targets = normal(20, 6, 5), classes(5, 20, 6)
    expected = (logits.argmax(-1) == targets).double().mean().item()
    assert score_of(language_model(), logits, targets) == pytest.approx(expected)
    chances = logits.softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    geometric = chances.log().mean(1).exp().mean().item()
    assert score_of(language_model(score="likelihood"), logits, targets) == pytest.approx(geometric)


CASES = [
    (classifier, (8, 3), classes(3, 2, 8)),
    (lambda: classifier(logit_adjustment=1.0), (8, 3), classes(3, 2, 8)),
    (regressor, (8, 1), normal(2, 8)),
    (multi_label, (8, 3), classes(2, 2, 8, 3).float()),
    (segmenter, (8, 3, 8, 8), classes(3, 2, 8, 8, 8)),
    (language_model, (8, 6, 5), classes(5, 2, 8, 6)),
]


@pytest.mark.parametrize(("make", "shape", "targets"), CASES)
def test_losses_of_a_stack_are_those_of_each_of_its_networks(
    make: Any, shape: tuple[int, ...], targets: Tensor
) -> None:
    module, outputs = make(), normal(2, *shape)
    members = [(outputs[row], targets[row]) for row in range(2)]
    stacked = module.stacked_loss(members)(outputs, (outputs, targets), slice(0, 2))
    alone = [module.participant_loss(member)(member[0], member) for member in members]
    torch.testing.assert_close(stacked, torch.stack(alone))


def test_a_network_of_other_outputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"gives \(2, 3\) for 2 inputs, expected are \(2, 3, 8, 8\)"):
        SlimmableSegmenter(3, (1, 8, 8), backbone="cnn3")
    with pytest.raises(InputError, match="no logits of classes in dimension 1"):
        SlimmableRegressor(1, (4,), backbone="mlp", distillation=0.5)
