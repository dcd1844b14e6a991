import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel, sandwich_step

# The compiler looks at this attribute of every input, and hides the warning unless warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

WIDTHS = (1.0, 0.5, 0.25)


def make() -> SlimmableModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    return SlimmableModel(net, WIDTHS, torch.zeros(1, 2, 5))


def train(model: SlimmableModel, x: torch.Tensor) -> None:
    model.zero_grad()
    sandwich_step(model, x, torch.arange(len(x)) % 3, WIDTHS)


def test_compiling_compiled_widths_have_the_same_gradients_from_one_graph_each() -> None:
    plain = make()
    compiled, counter = copy.deepcopy(plain), CompileCounterWithBackend("aot_eager")
    compiled.compile(backend=counter)
    tried = counter.frame_count
    for size in (6, 4, 9, 6):  # no graph of its own for the batch that is left over
        x = torch.randn(size, 2, 5)
        train(plain, x)
        train(compiled, x)
        for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad)
        for one, other in zip(plain.buffers(), compiled.buffers(), strict=True):
            torch.testing.assert_close(other, one)
    assert counter.frame_count - tried == len(WIDTHS)

    # What follows is not training, or not of the grid.
    compiled(x, width=0.75)
    compiled.recalibrate([x])
    compiled.eval()
    with torch.no_grad():
        assert all(torch.equal(compiled(x, width=width), compiled.extract(width)(x)) for width in WIDTHS)
    assert counter.frame_count - tried == len(WIDTHS)

    twin = copy.deepcopy(compiled).train()  # compiles anew, and shares nothing
    train(twin, x)
    torch.testing.assert_close(twin.full[0].weight.grad, compiled.full[0].weight.grad)


def test_compiling_machine_without_a_compiler_is_told_before_any_training() -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")}),
        pytest.raises(InputError, match=r"compile: .*No working C\+\+ compiler.*install"),
    ):
        make().compile()
