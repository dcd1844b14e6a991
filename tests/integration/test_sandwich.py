"""One sandwich step gives the same gradients in a plain loop, under Fabric and under the Trainer.

The reference adds up, by hand, the gradients of standalone networks of each width.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
from lightning import Fabric, Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step

pytestmark = [
    # A hint about loading speed; the data are tensors in memory.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    # Lightning's own use of torch (https://github.com/Lightning-AI/pytorch-lightning/issues/21746).
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),
]

WIDTHS = (1.0, 0.6, 0.25)
INPUTS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6) % 3
Gradients = dict[str, Tensor]
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def classifier(norm: str, distillation: float = 0.0) -> SlimmableClassifier:
    torch.manual_seed(0)
    return SlimmableClassifier(
        3, (1, 8, 8), backbone="cnn3", backbone_options={"norm": norm}, widths=WIDTHS, distillation=distillation
    )


def summed_by_hand(model: SlimmableModel, distillation: float = 0.0) -> Gradients:
    """Return the mean over the widths of the gradients of standalone networks, each put into its place."""
    total = {name: torch.zeros_like(parameter) for name, parameter in model.full.named_parameters()}
    teacher = None
    for width in WIDTHS:
        network = model.extract(width, fresh_statistics=True)
        outputs = network(INPUTS)
        loss = functional.cross_entropy(outputs, TARGETS)
        if teacher is None:
            teacher = outputs.detach().softmax(1)
        else:
            soft = functional.cross_entropy(outputs, teacher)  # the divergence up to the teacher's entropy
            loss = (1 - distillation) * loss + distillation * soft
        loss.backward()
        part = {name: torch.zeros_like(whole) for name, whole in total.items()}
        model.plan(width).put(part, {name: p.grad for name, p in network.named_parameters() if p.grad is not None})
        total = {name: total[name] + part[name] / len(WIDTHS) for name in total}
    return total


def gradients(model: SlimmableModel) -> Gradients:
    return {name: p.grad.clone() for name, p in model.full.named_parameters() if p.grad is not None}


def plain_loop(model: SlimmableClassifier, precision: str) -> None:
    def forward(inputs: Tensor, width: float) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            return model(inputs, width=width)

    sandwich_step(forward, INPUTS, TARGETS, WIDTHS, rule=model.rule)


def under_fabric(model: SlimmableClassifier, precision: str) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
    wrapped, _ = fabric.setup(model.network, torch.optim.SGD(model.parameters(), lr=0.1))
    sandwich_step(
        wrapped,
        INPUTS,
        TARGETS,
        WIDTHS,
        backward=fabric.backward,
        no_sync=lambda: fabric.no_backward_sync(wrapped),
        rule=model.rule,
    )


def under_trainer(model: SlimmableClassifier, precision: str) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)  # type: ignore[method-assign]
    trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, precision=precision, **QUIET)  # type: ignore[arg-type]
    trainer.fit(model, DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=len(INPUTS)))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * parameter.grad)


EVERYWHERE = [plain_loop, under_fabric, under_trainer]
Run = Callable[[SlimmableClassifier, str], None]


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    flat, exact = (torch.cat([each[name].flatten() for name in expected]) for each in (found, expected))
    return float((flat - exact).norm() / exact.norm())


@pytest.mark.parametrize("run", EVERYWHERE)
@pytest.mark.parametrize(("norm", "distillation"), [("batch", 0.0), ("none", 0.7)])
def test_gradients_are_the_hand_summed_ones(run: Run, norm: str, distillation: float) -> None:
    model = classifier(norm, distillation)
    expected = summed_by_hand(model.network, distillation)
    run(model, "32-true")
    assert_equal(gradients(model.network), expected)


@pytest.mark.parametrize("run", EVERYWHERE)
def test_mixed_precision_is_near(run: Run) -> None:
    model = classifier("none")
    exact = summed_by_hand(model.network)
    with torch.autocast("cpu", torch.bfloat16):
        expected = summed_by_hand(model.network)
    run(model, "bf16-mixed")
    found = gradients(model.network)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    # Standalone networks lose as much to bfloat16, about a tenth of these small gradients.
    assert distance(found, expected) < 0.03 < distance(found, exact) < 0.2


# The compiler looks at this attribute of every input, and hides the warning unless warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_under_the_trainer_gradients_are_the_hand_summed_ones() -> None:
    model = classifier("batch")
    expected = summed_by_hand(model.network)
    model.compile(backend="aot_eager")
    under_trainer(model, "32-true")
    assert_equal(gradients(model.network), expected)


def test_a_scaled_loss_in_float16_is_unscaled_once_and_its_overflow_skips_the_step() -> None:
    model = classifier("none")
    with torch.autocast("cpu", torch.float16):
        expected = summed_by_hand(model.network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def forward(inputs: Tensor, width: float) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return model(inputs, width=width)

    sandwich_step(forward, INPUTS, TARGETS, WIDTHS, backward=lambda loss: scaler.scale(loss).backward())
    scaler.unscale_(optimizer)
    assert distance(gradients(model.network), expected) < 0.01

    # Only the narrowest width overflows, and it adds to the gradients past autograd.
    def overflowing(inputs: Tensor, width: float) -> Tensor:
        return forward(inputs, width) * (float("inf") if width == WIDTHS[-1] else 1.0)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.zero_grad()
    sandwich_step(overflowing, INPUTS, TARGETS, WIDTHS, backward=lambda loss: scaler.scale(loss).backward())
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert scaler.get_scale() == 2.0**9


def test_channels_last_gradients_are_the_hand_summed_ones_and_keep_their_layout() -> None:
    model = classifier("batch")
    expected = summed_by_hand(model.network)
    model.to(memory_format=torch.channels_last)
    sandwich_step(model, INPUTS.to(memory_format=torch.channels_last), TARGETS, WIDTHS)
    assert_equal(gradients(model.network), expected)
    weight = model.network.full[4].weight
    assert weight.grad.is_contiguous(memory_format=torch.channels_last)
    assert not weight.grad.is_contiguous()


def test_micro_batches_add_up_to_the_batch() -> None:
    model = classifier("none")
    sandwich_step(model, INPUTS, TARGETS, WIDTHS, rule=SandwichRule(distillation=Distillation()))
    whole = gradients(model.network)
    model.zero_grad()
    for half in (slice(0, 3), slice(3, 6)):
        sandwich_step(
            model, INPUTS[half], TARGETS[half], WIDTHS, backward=lambda loss: (loss / 2).backward(),
            rule=SandwichRule(distillation=Distillation()),
        )  # fmt: skip
    assert_equal(gradients(model.network), whole)


def test_clipping_belongs_after_the_last_width() -> None:
    model = classifier("none")
    expected = summed_by_hand(model.network)
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    limit = float(norm) / 3

    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = fabric.setup(model.network, torch.optim.SGD(model.parameters(), lr=0.1))
    sandwich_step(wrapped, INPUTS, TARGETS, WIDTHS, backward=fabric.backward)
    total = fabric.clip_gradients(wrapped, optimizer, max_norm=limit)
    torch.testing.assert_close(total, norm)
    assert_equal(gradients(model.network), {name: gradient / 3 for name, gradient in expected.items()})
