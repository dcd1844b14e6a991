from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aequa_lightning.errors import InputError
from aequa_lightning.modules import RewardClassifier
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import Distillation

INPUTS, TARGETS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def classifier(**options: Any) -> SlimmableClassifier:
    torch.manual_seed(0)
    return SlimmableClassifier(3, (1, 8, 8), **{"backbone": "cnn3", "widths": (1.0, 0.5, 0.25), **options})


def gradients(model: SlimmableClassifier) -> list[Tensor]:
    model.sandwich((INPUTS, TARGETS), step=0, forward=model, backward=Tensor.backward, no_sync=nullcontext)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_classifier_sandwich_sum_of_three_widths_is_three_times_their_mean() -> None:
    for one, other in zip(gradients(classifier()), gradients(classifier(reduction="sum")), strict=True):
        torch.testing.assert_close(other, 3 * one)


@pytest.mark.parametrize(("option", "width"), [("full_width_loss_weight", 1.0), ("smallest_width_loss_weight", 0.25)])
def test_classifier_sandwich_weight_of_an_end_is_that_of_its_width(option: str, width: float) -> None:
    small, large = [classifier(**{option: share}) for share in (0.001, 0.999)]
    alone = classifier()
    functional.cross_entropy(alone(INPUTS, width=width), TARGETS).backward()
    own = torch.cat([parameter.grad.flatten() for parameter in alone.parameters() if parameter.grad is not None])
    far, near = [torch.dist(torch.cat([g.flatten() for g in gradients(model)]), own) for model in (small, large)]
    assert near < 0.01 * own.norm() < far


def test_classifier_temperature_is_that_of_the_distillation() -> None:
    assert classifier(distillation=0.25, temperature=2.0).rule.distillation == Distillation(0.25, temperature=2.0)


def test_classifier_logit_adjustment_shifts_the_loss_against_the_targets_and_nothing_else() -> None:
    own_targets = torch.tensor([0, 0, 0, 0, 2, 0, 2])
    # 5, 0 and 2 of 7 samples, each with half a sample more.
    log_shares = (torch.tensor([5.5, 0.5, 2.5]) / 8.5).log()
    options: dict[str, Any] = {"backbone": "mlp", "distillation": 0.25}
    model, by_hand = classifier(logit_adjustment=2.0, **options), classifier(**options)
    own_loss = model.participant_loss((torch.zeros(7, 1, 8, 8), own_targets))
    model.sandwich(
        (INPUTS, TARGETS), step=0, loss=own_loss, forward=model, backward=Tensor.backward, no_sync=nullcontext
    )
    full = by_hand(INPUTS)
    teacher = full.detach().softmax(1)
    loss = functional.cross_entropy(full + 2 * log_shares, TARGETS)
    for width in (0.5, 0.25):
        logits = by_hand(INPUTS, width=width)
        hard = functional.cross_entropy(logits + 2 * log_shares, TARGETS)
        loss = loss + 0.75 * hard + 0.25 * functional.kl_div(logits.log_softmax(1), teacher, reduction="batchmean")
    (loss / 3).backward()
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_classifier_logit_adjustment_is_off_by_default_and_refused_where_it_makes_no_sense() -> None:
    logits = torch.randn(6, 3)
    own_loss = classifier().participant_loss((INPUTS, TARGETS))
    assert own_loss(logits, (INPUTS, TARGETS)) == functional.cross_entropy(logits, TARGETS)
    for value in (-0.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"model\.logit_adjustment"):
            classifier(logit_adjustment=value)
    with pytest.raises(InputError, match="Lightning's Trainer has none"):
        classifier(logit_adjustment=1.0).on_train_start()


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("shared", nn.BatchNorm2d), ("private", nn.BatchNorm2d), ("static", nn.BatchNorm2d), ("group", nn.GroupNorm)],
)
def test_classifier_reward_of_every_norm_is_rebuilt_from_its_own_description(norm: str, kind: type[nn.Module]) -> None:
    model = classifier(norm=norm, channels_per_group=4)
    gradients(model)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.network.recalibrate([INPUTS])
    reward = RewardClassifier(**model.reward_hparams(0.5, None))
    reward.network.load_state_dict(model.network.extract(0.5).state_dict())
    with torch.no_grad():
        assert torch.equal(reward.eval()(INPUTS), model.eval()(INPUTS, width=0.5))
    kinds = {type(part) for part in reward.modules() if "Norm" in type(part).__name__}
    assert kinds == {kind}
    assert model.network.has_statistics == (norm in ("shared", "private"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_random_widths": -1}, "model.num_random_widths=-1"),
        ({"distillation": 0.5, "temperature": 0.0}, "model.temperature=0.0"),
        ({"norm": "layer"}, "model.norm='layer'.*shared, private, static, group"),
        ({"norm": "group", "backbone_options": {"norm": "none"}}, "model.norm='group'.*has none"),
        ({"norm": "group", "channels_per_group": 5}, "channels_per_group.*16 channels"),
    ],
)
def test_classifier_refuses_impossible_options_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(**options)
