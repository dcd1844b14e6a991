import pytest
import torch
from torch import nn

from aequa_lightning.slimmable import SlimmableModel
from aequa_lightning.slimmable.borrowed_slices import accumulating

from .networks import NETWORKS, batch

WIDTHS = (1.0, 0.61, 0.3)


@pytest.mark.parametrize("name", NETWORKS)
def test_borrowed_slices_adding_gradients_in_place_gives_those_of_plain_slices(name: str) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    x = batch(shape)
    model = SlimmableModel(build(), WIDTHS, x[:1])
    next(model.parameters()).requires_grad_(False)
    gradients = []
    for context in (torch.enable_grad, accumulating):
        model.zero_grad()
        for width in WIDTHS[1:]:  # the first one finds no gradient, the second one adds to it
            with context():
                output = model(x, width=width)
            output.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, in_place in zip(*gradients, strict=True):
        assert (plain is None) == (in_place is None)
        if plain is not None:
            torch.testing.assert_close(in_place, plain, rtol=1e-6, atol=1e-6)


def test_borrowed_slices_outside_of_accumulation_a_width_can_be_differentiated_as_usual() -> None:
    model = SlimmableModel(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), [1, 0.5], torch.zeros(1, 4))
    x = torch.randn(5, 4)
    with accumulating():
        model(x, width=0.5)
    gradients = torch.autograd.grad(model(x, width=0.5).square().sum(), list(model.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in model.parameters())
