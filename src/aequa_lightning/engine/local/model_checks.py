"""Checks that a model can be trained by averaging: its types, and that training changes nothing but its parameters.

A participant's update holds parameters only. A buffer that training changes would leak into the next participant that
the process trains, but would reach neither the server, nor a checkpoint, nor a reward. Such a model is refused.
Statistics of norm layers are exempt: they are recomputed for each width that is evaluated.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from aequa_lightning.backbones.full_network import full_network
from aequa_lightning.engine.local.buffers import FULL, buffers, equal_tensors
from aequa_lightning.engine.processes.seeding import seed_global_generators
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.runtime.process_settings import evaluating, keeping_modes
from aequa_lightning.slimmable import norm

# Trial training steps: a buffer that training changes is expected to change within them.
STEPS = 2
# Batch size of the trial steps; a norm layer needs two samples.
SAMPLES = 2
# Largest relative difference of two equal losses, in units of machine epsilon: the order of summation may vary.
ROUNDING = 32


def check_types(model: SlimmableModule) -> None:
    """Check that all trainable parameters are float32, or all float64, and that the model accepts float32 data.

    Raises:
        InputError: No parameter is trainable, types are mixed or too short, or the model rejects the data's type.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    types: dict[torch.dtype, str] = {}
    for name, value in trainable.items():
        types.setdefault(value.dtype, name)
    if not types:
        raise InputError("model.backbone has no parameter that can be trained; set requires_grad of some to True.")
    if any(value.is_inference() for value in model.parameters()):
        raise InputError("model was built within torch.inference_mode() and cannot be trained; build it outside of it.")
    if len(types) > 1:
        named = " and ".join(f"{name} in {dtype}" for dtype, name in types.items())
        raise InputError(
            f"model.backbone has trainable parameters of several types ({named}), but participants send one vector; "
            "build all of them in one type."
        )
    (dtype,) = types
    if dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"model.backbone has trainable parameters in {dtype}, which rounds the average of small updates to "
            "nothing; keep them in torch.float32, and set trainer.precision=bf16-mixed to compute in half precision."
        )
    example = model.network.example_input
    if example.is_floating_point() and dtype == torch.float64:
        _check_accepts(model.network.full, torch.zeros_like(example, dtype=torch.float32))


def _check_accepts(network: nn.Module, inputs: Tensor) -> None:
    """Check that a network accepts inputs of the type of the data.

    Raises:
        InputError: Its forward pass fails with them.
    """
    try:
        with torch.no_grad(), keeping_modes(network):
            network.eval()(inputs)
    except RuntimeError as error:
        raise InputError(
            f"model.backbone has parameters in torch.float64, but data are in {inputs.dtype}: {error}. Build it in "
            "torch.float32, or let its first layer convert its inputs."
        ) from error


def check_state(
    classifier: SlimmableModule,
    samples: TensorDataset,
    *,
    device: torch.device,
    augmentation: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Check that training changes nothing of a model but its parameters and the statistics of norm layers.

    A copy of the model runs some training steps at full width without an optimizer step. Its buffers and the results
    of ``get_extra_state`` are compared with those before. Other state, such as plain attributes, is detected by its
    effect: with the same parameters, inputs and seeds, the used copy must return the same loss as a fresh copy.

    Args:
        classifier: The model; neither it nor the global random generators change.
        samples: Inputs and targets; the first ``2 * SAMPLES`` are used.
        device: Device of the copies.
        augmentation: Applied to the inputs; None: none.

    Raises:
        InputError: Training changes other state; the message names it.
    """
    _check_rebuilt(classifier)
    inputs, targets = (tensor.to(device) for tensor in samples[: 2 * SAMPLES])
    # Two batches of different samples; samples repeat if there are fewer than 2 * SAMPLES.
    rows = [[(start + place) % len(targets) for place in range(SAMPLES)] for start in (0, SAMPLES)]
    first, second = ((inputs[part], targets[part]) for part in rows)
    try:
        used, fresh = (copy.deepcopy(classifier).to(device) for _ in range(2))
    except Exception as error:
        raise InputError(
            f"model.backbone: the model cannot be copied ({error}), so that a check whether training changes something "
            "besides its parameters is impossible; keep no open files, locks or results of computations in it."
        ) from error
    with isolate_rng():
        used.network.full(used.inputs(first))
        for name in buffers(used).keys() - buffers(classifier).keys():
            raise InputError(
                f"model.backbone: buffer {name.removeprefix(FULL)} is created in the first forward pass, which "
                "narrow widths do not support; create it in the builder."
            )
        for step in range(STEPS):
            _losses(used, first, step, augmentation)
        with evaluating(used), torch.no_grad():
            used(used.inputs(first))
        found, expected = (_losses(model, second, STEPS, augmentation) for model in (used, fresh))
    for name in _changed(classifier, used):
        raise InputError(
            f"model.backbone: training changes {name}, which is not part of updates, checkpoints or rewards; make it a "
            "parameter or a constant, or use a norm layer of torch for statistics."
        )
    if not all(_same_loss(found[width], loss) for width, loss in expected.items()):
        raise InputError(
            "model.backbone: with the same parameters, inputs and seeds, a training step gives another loss after "
            "earlier steps. An attribute, a random generator of its own or the augmentation has changed, which is not "
            "part of updates, checkpoints or rewards; draw random numbers from the global generator of torch, NumPy or "
            "Python, and keep no state between steps."
        )


def _check_rebuilt(classifier: SlimmableModule) -> None:
    """Check that rebuilding the network, as a reward does, gives the same non-persistent buffers.

    Files of rewards do not hold these buffers.

    Raises:
        InputError: A buffer differs.
    """
    full = classifier.network.full
    names = [
        f"{path}.{key}" if path else key
        for path, part in full.named_modules()
        for key in part._non_persistent_buffers_set
    ]
    if not names:
        return
    options = classifier.reward_hparams(1.0, None) | {"backbone": classifier.source.given}
    with isolate_rng():
        # A seed that differs from the one of the build reveals buffers with random values.
        seed_global_generators(torch.initial_seed() + 1, torch.device("cpu"))
        rebuilt = dict(
            full_network(**{k: v for k, v in options.items() if k not in ("width", "layers")})[0].named_buffers()
        )
    statistics, own = norm.statistics(full), dict(full.named_buffers())
    for name in names:
        if (
            name in own
            and name not in statistics
            and not equal_tensors(own[name].cpu(), rebuilt.get(name, torch.empty(0)).cpu())
        ):
            raise InputError(
                f"model.backbone: buffer {name} is not persistent, and its builder creates a different one each "
                "time, so that a reward would lack the one of the training; register it with persistent=True."
            )


def _same_loss(one: Tensor, other: Tensor) -> bool:
    """Tell whether two losses are equal up to rounding."""
    rounding = ROUNDING * torch.finfo(one.dtype).eps
    return bool(torch.isclose(one, other, rtol=rounding, atol=rounding, equal_nan=True))


def _losses(
    model: SlimmableModule,
    batch: tuple[Tensor, Tensor],
    step: int,
    augmentation: Callable[[Tensor], Tensor] | None,
) -> dict[float, Tensor]:
    """Return the loss of a training step at full width, by width; parameters do not change.

    Narrow widths are left out: a copy of the model would have to check them again, which takes longer than all the
    rest of this module.
    """
    inputs, targets = batch
    seed_global_generators(step, inputs.device)
    inputs = inputs if augmentation is None else augmentation(inputs)
    return model.sandwich(
        (inputs, targets),
        step=step,
        grid=(1.0,),
        forward=model,
        backward=lambda loss: None,
        no_sync=nullcontext,
    )


def _changed(before: SlimmableModule, after: SlimmableModule) -> Iterator[str]:
    """Yield the names of the buffers and extra states that differ between two copies of a model."""
    old = buffers(before)
    for name, buffer in buffers(after).items():
        if not equal_tensors(buffer.cpu(), old[name].cpu()):
            yield f"buffer {name.removeprefix(FULL)}"
    own = dict(before.named_modules())
    for name, part in after.named_modules():
        has_extra = type(part).get_extra_state is not nn.Module.get_extra_state
        if has_extra and pickle.dumps(part.get_extra_state()) != pickle.dumps(own[name].get_extra_state()):
            yield f"the extra state of {name.removeprefix(FULL)}"
