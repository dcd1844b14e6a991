"""What a model carries besides its parameters: all participants start from the same, and training must not change it.

A participant sends an update of the parameters, and nothing else. So a buffer that its training changes would reach the
next participant of the process, but neither the server, nor a checkpoint, nor a reward. Such a model is refused.
Statistics of norm layers are no matter here: they are taken anew for whatever width is evaluated.
"""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from aequa_lightning.backbones.full_network import full_network
from aequa_lightning.engine.processes.seeding import seed_global_generators
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.runtime.process_settings import evaluating
from aequa_lightning.slimmable import norm

FULL = "network.full."
# Steps of training after which a buffer that ever changes is expected to have changed.
STEPS = 2
# Samples of a batch that is tried; a norm layer needs two.
SAMPLES = 2
# Units of the last place by which two losses may differ: sums may be taken in another order each time.
ROUNDING = 32


def buffers(classifier: SlimmableClassifier) -> dict[str, Tensor]:
    """Return all buffers of a model, persistent or not, but the statistics of norm layers; by name, not copied."""
    statistics = {f"{FULL}{name}" for name in norm.statistics(classifier.network.full)}
    return {
        name: buffer
        for name, buffer in classifier.named_buffers()
        if name not in statistics and not name.startswith("network.statistics.")
    }


@torch.no_grad()
def load_buffers(classifier: SlimmableClassifier, saved: Mapping[str, Tensor]) -> None:
    """Copy what :func:`buffers` returned into a model's buffers; those of other names stay as they are.

    Raises:
        InputError: A buffer has another shape.
    """
    for name, buffer in buffers(classifier).items():
        value = saved.get(name, buffer)
        if value.shape != buffer.shape:
            raise InputError(
                f"ckpt_path does not fit the model: buffer {name} has shape {tuple(value.shape)} in the file, but "
                f"{tuple(buffer.shape)} in the model; use the run's own config.yaml."
            )
        if value is not buffer:
            buffer.copy_(value)


def check_state(
    classifier: SlimmableClassifier,
    samples: TensorDataset,
    *,
    device: torch.device,
    augmentation: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Prove that training changes nothing of a model but its parameters and the statistics of norm layers.

    Copies of the model compute some steps at full width, whose gradients nobody takes. Buffers are compared before and
    after, and so is what ``get_extra_state`` returns. Whatever else a model may carry, such as plain attributes, is
    found by what it does: with the same parameters, inputs and seeds, a model that has computed before must give the
    same losses as one that has not.

    Args:
        classifier: The model; it stays as it is, and so do the random generators.
        samples: Inputs and their classes; some are tried.
        device: Where the copies compute.
        augmentation: Of the inputs.

    Raises:
        InputError: Something does change; it is named.
    """
    _check_rebuilt(classifier)
    inputs, targets = (tensor.to(device) for tensor in samples[: 2 * SAMPLES])
    # Two small batches of other samples, where there are enough.
    rows = [[(start + place) % len(targets) for place in range(SAMPLES)] for start in (0, SAMPLES)]
    first, second = ((inputs[part], targets[part]) for part in rows)
    try:
        used, fresh = (copy.deepcopy(classifier).to(device) for _ in range(2))
    except Exception as error:
        raise InputError(
            f"model.backbone: the model cannot be copied ({error}), so that nobody can tell whether training changes "
            "something besides its parameters; keep no open files, locks or results of computations in it."
        ) from error
    with isolate_rng():
        used.network.full(first[0])
        for name in buffers(used).keys() - buffers(classifier).keys():
            raise InputError(
                f"model.backbone: buffer {name.removeprefix(FULL)} is made when the network first computes, which "
                "narrow widths cannot follow; make it in the builder."
            )
        for step in range(STEPS):
            _losses(used, first, step, augmentation)
        with evaluating(used), torch.no_grad():
            used(first[0])
        found, expected = (_losses(model, second, STEPS, augmentation) for model in (used, fresh))
    for name in _changed(classifier, used):
        raise InputError(
            f"model.backbone: training changes {name}, which nothing carries from a participant to the server, into "
            "checkpoints and rewards; make it a parameter or a constant, or use a norm layer of torch for statistics."
        )
    if not all(_same_loss(found[width], loss) for width, loss in expected.items()):
        raise InputError(
            "model.backbone: with the same parameters, inputs and seeds, a step of training gives another loss when "
            "the model has computed before. So an attribute, a generator of its own or the augmentation changes, which "
            "nothing carries from a participant to the server; draw random numbers from the global generator of torch, "
            "NumPy or Python, and keep nothing from step to step."
        )


def _check_rebuilt(classifier: SlimmableClassifier) -> None:
    """Prove that rewards, which are built anew, get the same buffers where files do not hold them."""
    full = classifier.network.full
    names = [
        f"{path}.{key}" if path else key
        for path, part in full.named_modules()
        for key in part._non_persistent_buffers_set
    ]
    if not names:
        return
    options = classifier.reward_hparams(1.0, None)
    with isolate_rng():
        # Other random numbers than when the model was built.
        seed_global_generators(torch.initial_seed() + 1, torch.device("cpu"))
        rebuilt = dict(
            full_network(**{k: v for k, v in options.items() if k not in ("width", "layers")})[0].named_buffers()
        )
    statistics, own = norm.statistics(full), dict(full.named_buffers())
    for name in names:
        if (
            name in own
            and name not in statistics
            and not _equal(own[name].cpu(), rebuilt.get(name, torch.empty(0)).cpu())
        ):
            raise InputError(
                f"model.backbone: buffer {name} is not persistent, and its builder makes another one each time, so "
                "that a reward would lack the one that was trained with; register it with persistent=True."
            )


def _same_loss(one: Tensor, other: Tensor) -> bool:
    """Tell whether two losses are the same but for the order in which sums were taken."""
    rounding = ROUNDING * torch.finfo(one.dtype).eps
    return bool(torch.isclose(one, other, rtol=rounding, atol=rounding, equal_nan=True))


def _losses(
    model: SlimmableClassifier,
    batch: tuple[Tensor, Tensor],
    step: int,
    augmentation: Callable[[Tensor], Tensor] | None,
) -> dict[float, Tensor]:
    """Return the loss of a step of training at full width that moves no parameter, by width.

    A copy would have to prove its narrow widths anew, which takes longer than all else here.
    """
    inputs, targets = batch
    seed_global_generators(step, inputs.device)
    inputs = inputs if augmentation is None else augmentation(inputs)
    return model.sandwich(
        inputs, targets, step=step, grid=(1.0,), forward=model, backward=lambda loss: None, no_sync=nullcontext
    )


def _changed(before: SlimmableClassifier, after: SlimmableClassifier) -> Iterator[str]:
    """Yield what differs in a model that has computed."""
    old = buffers(before)
    for name, buffer in buffers(after).items():
        if not _equal(buffer.cpu(), old[name].cpu()):
            yield f"buffer {name.removeprefix(FULL)}"
    own = dict(before.named_modules())
    for name, part in after.named_modules():
        has_extra = type(part).get_extra_state is not nn.Module.get_extra_state
        if has_extra and pickle.dumps(part.get_extra_state()) != pickle.dumps(own[name].get_extra_state()):
            yield f"the extra state of {name.removeprefix(FULL)}"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors hold the same; not-a-number is the same as itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(torch.equal(one, other) or ((one == other) | ((one != one) & (other != other))).all())


class _Kept(NamedTuple):
    name: str
    store: dict[str, Tensor | None]
    key: str
    tensor: Tensor
    version: int
    value: Tensor


class UnchangedBuffers:
    """Proves between participants that no buffer has changed, at hardly any cost.

    :func:`check_state` has tried a few steps; a buffer may change after more of them only.

    Args:
        classifier: The model, with its buffers as all participants start from.
    """

    def __init__(self, classifier: SlimmableClassifier) -> None:
        self._kept: list[_Kept] = []
        parts = dict(classifier.named_modules())
        for name, buffer in buffers(classifier).items():
            place, _, key = name.rpartition(".")
            self._kept.append(_Kept(name, parts[place]._buffers, key, buffer, buffer._version, buffer.clone()))

    def check(self) -> None:
        """Prove it.

        Raises:
            InputError: A buffer has changed.
        """
        for place, kept in enumerate(self._kept):
            now = kept.store.get(kept.key)
            if now is kept.tensor and now._version == kept.version:
                continue
            if now is None or not _equal(now, kept.value):
                raise InputError(
                    f"model.backbone: training has changed buffer {kept.name.removeprefix(FULL)}, which nothing "
                    "carries from a participant to the server, into checkpoints and rewards; make it a parameter or "
                    "a constant."
                )
            self._kept[place] = kept._replace(tensor=now, version=now._version)
