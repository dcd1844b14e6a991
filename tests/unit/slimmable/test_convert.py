import pytest
import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel
from aequa_lightning.slimmable.convert import group_norm_from_batch_norm
from tests.unit.slimmable.networks import Dense, Residual


def norms(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d | nn.GroupNorm)]


@pytest.mark.parametrize(("build", "size"), [(Residual, 4), (Dense, 2)])
def test_convert_every_width_of_a_converted_network_does_without_statistics(build: type[nn.Module], size: int) -> None:
    torch.manual_seed(0)
    original, x = build(), torch.randn(2, 3, 8, 8)
    for part in norms(original):
        nn.init.normal_(part.weight)
        nn.init.normal_(part.bias)
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    converted = group_norm_from_batch_norm(original, size)
    assert all(isinstance(part, nn.BatchNorm2d) for part in norms(original))
    assert len(norms(converted)) == len(norms(original))
    assert dict(converted.named_buffers()) == {}
    for name, tensor in converted.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.data_ptr() != original.state_dict()[name].data_ptr()

    model = SlimmableModel(converted, [1, 0.5], x[:1])
    assert not model.has_statistics
    assert not list(model.statistics.children())
    model(x)
    model.eval()
    for width in (1.0, 0.61, 0.5):
        narrow = model.extract(width)
        assert torch.equal(model(x, width=width), narrow(x))
        for part in norms(narrow):
            assert isinstance(part, nn.GroupNorm)
            assert part.num_channels == size * part.num_groups


def test_convert_group_norm_normalises_each_group_of_channels() -> None:
    norm = nn.BatchNorm2d(8, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 9.0))
        norm.bias.copy_(torch.arange(8.0))
    x = torch.randn(2, 8, 3, 3)
    grouped = x.view(2, 2, 36)
    flat = (grouped - grouped.mean(2, keepdim=True)) / (grouped.var(2, keepdim=True, correction=0) + 1e-3).sqrt()
    expected = flat.view(2, 8, 3, 3) * torch.arange(1.0, 9.0).view(8, 1, 1) + torch.arange(8.0).view(8, 1, 1)
    torch.testing.assert_close(group_norm_from_batch_norm(norm, 4)(x), expected)


def test_convert_norm_that_is_used_twice_stays_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm1d(4, affine=False)
            self.second = self.first
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    converted = group_norm_from_batch_norm(Twice(), 2)
    assert converted.first is converted.second
    assert isinstance(converted.first, nn.GroupNorm)
    assert not converted.first.training
    assert list(converted.parameters()) == []


def test_convert_channels_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"14 channels of layer 'third\.0' .* groups of 4"):
        group_norm_from_batch_norm(Dense(), 4)
    with pytest.raises(InputError, match="channels_per_group: 0"):
        group_norm_from_batch_norm(Dense(), 0)
