"""Types in which updates of participants can be averaged."""

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.runtime.process_settings import keeping_modes


def check_types(model: SlimmableClassifier) -> None:
    """Prove that updates of a model can be averaged in the type of its parameters.

    Raises:
        InputError: They cannot, or the model does not take the data's type.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    types: dict[torch.dtype, str] = {}
    for name, value in trainable.items():
        types.setdefault(value.dtype, name)
    if not types:
        raise InputError("model.backbone has no parameter that can be trained; set requires_grad of some to True.")
    if any(value.is_inference() for value in model.parameters()):
        raise InputError("model was built within torch.inference_mode(), which forbids to train it; build it outside.")
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
        _check_takes(model.network.full, torch.zeros_like(example, dtype=torch.float32))


def _check_takes(network: nn.Module, inputs: Tensor) -> None:
    """Prove that a network takes inputs of the type that data are in."""
    try:
        with torch.no_grad(), keeping_modes(network):
            network.eval()(inputs)
    except RuntimeError as error:
        raise InputError(
            f"model.backbone has parameters in torch.float64, but data are in {inputs.dtype}: {error}. Build it in "
            "torch.float32, or let its first layer convert what it is given."
        ) from error
