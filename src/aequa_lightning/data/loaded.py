"""What ``load`` returns: its type, and the checks that are made before samples are divided."""

import warnings
from numbers import Integral
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aequa_lightning.data.preparation import IntArray
from aequa_lightning.data.target_kinds import TargetKind, is_kind, target_fault
from aequa_lightning.errors import InputError

# Types of inputs; int64 stands for token numbers.
TYPES = (torch.uint8, torch.float32, torch.float64, torch.int64)


class Split(NamedTuple):
    """One part of a data set as it was loaded.

    Attributes:
        inputs: Images as uint8 (scaled to [0, 1] later) or float32, shape (samples, channels, height, width); vectors
            as float32, shape (samples, features), both also as float64; or token numbers as int64, shape
            (samples, length).
        targets: Classes, int64, shape (samples,), or what :data:`~aequa_lightning.data.target_kinds.TargetKind` says.
        groups: The data set's own grouping of its samples, such as the writer, shape (samples,); None without one.
    """

    inputs: Tensor
    targets: Tensor
    groups: IntArray | None = None


class Loaded(NamedTuple):
    """The parts of a data set.

    Attributes:
        train: The training part, which participants divide.
        validation: The server's part; None: it is taken out of the training part.
        test: The test part.
    """

    train: Split
    validation: Split | None
    test: Split


def check_loaded(
    parts: Any,
    *,
    owner: str,
    num_classes: int,
    input_shape: tuple[int, ...],
    vocabulary_size: int | None,
    kind: TargetKind = "classes",
) -> Loaded:
    """Check what ``load`` has returned.

    Args:
        parts: It: the training and the test part, or the training, the validation and the test part.
        owner: Name of the class that has loaded them, for messages.
        num_classes: Number of classes that the class states.
        input_shape: Shape of a sample that it states.
        vocabulary_size: Number of tokens that it states; None where samples are no rows of token numbers.
        kind: Kind of targets that it states.

    Raises:
        InputError: The parts are no `Split` each, or do not fit what the class states.

    Example:
        >>> inputs, targets = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
        >>> facts = dict(owner="Mine", num_classes=2, input_shape=(2,), vocabulary_size=None)
        >>> check_loaded((Split(inputs, targets),) * 2, **facts).validation is None
        True
        >>> check_loaded((Split(inputs, targets.float()),) * 2, **facts)
        Traceback (most recent call last):
        ...
        aequa_lightning.errors.InputError: Mine.load: targets of the training part are torch.float32; classes are \
whole numbers, so give targets.long(), or set target_kind = 'numbers' to predict numbers
    """
    pair = isinstance(parts, tuple | list) and not isinstance(parts, Split)
    if not pair or len(parts) not in (2, 3) or not all(isinstance(part, Split) for part in parts):
        raise InputError(
            f"{owner}.load returns {_named(parts)}; return two parts, Split(inputs, targets) for training and "
            f"Split(inputs, targets) for testing, or three with one for validation between them{_unpacking(parts)}"
        )
    names = ("training", "test") if len(parts) == 2 else ("training", "validation", "test")
    for name, part in zip(names, parts, strict=True):
        fault = _fault(
            part, num_classes=num_classes, input_shape=tuple(input_shape), vocabulary_size=vocabulary_size, kind=kind
        )
        if fault:
            raise InputError(f"{owner}.load: {fault[0]} of the {name} part {fault[1]}")
    train, *between, test = parts
    return Loaded(train, between[0] if between else None, test)


def _named(parts: object) -> str:
    if isinstance(parts, tuple | list) and not isinstance(parts, Split):
        return f"({', '.join(type(part).__name__ for part in parts)})"
    return "nothing" if parts is None else type(parts).__name__


def _unpacking(parts: object) -> str:
    """Return how a Dataset of torch becomes a Split."""
    held = parts if isinstance(parts, tuple | list) else [parts]
    if not any(isinstance(part, Dataset) for part in held):
        return ""
    return (
        "; a TensorDataset's are Split(*dataset.tensors), another dataset's "
        "Split(torch.stack([x for x, _ in dataset]), torch.tensor([y for _, y in dataset]))"
    )


def _fault(
    part: Split, *, num_classes: int, input_shape: tuple[int, ...], vocabulary_size: int | None, kind: TargetKind
) -> tuple[str, str] | None:
    """Return what does not fit and why; None if everything fits."""
    inputs, targets, groups = part
    untyped: dict[str, Any] = {"inputs": inputs, "targets": targets}
    for name, values in untyped.items():
        if not isinstance(values, Tensor):
            return name, f"are no tensor but {type(values).__name__}; give {_as_tensor(name, values)}"
    fault = _input_fault(inputs, input_shape, vocabulary_size)
    if fault is None:
        told = target_fault(targets, len(inputs), num_classes, kind)
        fault = ("targets", told) if told else _group_fault(groups, len(inputs))
    return fault


def _as_tensor(name: str, values: Any) -> str:
    """Return the line that makes a tensor of values."""
    if isinstance(values, list | tuple | np.ndarray) and len(values) and isinstance(values[0], str):
        return f"torch.tensor([names.index(name) for name in {name}]) with names = sorted(set({name}))"
    return f"torch.from_numpy({name})" if isinstance(values, np.ndarray) else f"torch.tensor({name})"


def _input_fault(inputs: Tensor, input_shape: tuple[int, ...], vocabulary_size: int | None) -> tuple[str, str] | None:
    name = "inputs"
    if inputs.dtype not in TYPES:
        return name, f"are {inputs.dtype}; give inputs.float(), or uint8 for images of 0 to 255"
    if inputs.dtype == torch.int64 and vocabulary_size is None:
        return name, "are torch.int64, which stands for token numbers; give inputs.float(), or set vocabulary_size"
    if inputs.ndim == 0 or len(inputs) == 0:
        return name, "are empty; give samples"
    if tuple(inputs.shape[1:]) != input_shape:
        return name, f"have shape {tuple(inputs.shape)}, but input_shape is {input_shape}; make both alike"
    if inputs.dtype == torch.int64 and not 0 <= int(inputs.min()) <= int(inputs.max()) < (vocabulary_size or 0):
        return name, f"hold tokens outside of 0 to {(vocabulary_size or 0) - 1}; raise vocabulary_size"
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        row = int((~torch.isfinite(inputs.flatten(1)).all(dim=1)).nonzero()[0])
        return name, f"hold NaN or infinity, first in sample {row}; mend or remove it"
    return None


def _group_fault(groups: object, samples: int) -> tuple[str, str] | None:
    if groups is None or (isinstance(groups, np.ndarray) and groups.shape == (samples,)):
        return None
    return "groups", f"are {type(groups).__name__}; give a numpy array of shape ({samples},): numpy.array(groups)"


def data_name(owner: object) -> str:
    """Return the name of a data set, after its class.

    Args:
        owner: The data.
    """
    return type(owner).__name__.removesuffix("Data")


def check_statements(owner: Any) -> None:
    """Check that a data class states the number of its classes and the shape of a sample.

    Args:
        owner: The data.

    Raises:
        InputError: One of them is missing, or no number or shape.
    """
    name = type(owner).__name__
    for key, example in {"num_classes": "3", "input_shape": "(1, 28, 28)"}.items():
        if getattr(owner, key, None) is None:
            raise InputError(f"{name} states no {key}; set it in the class or in __init__, such as {key} = {example}")
    classes = owner.num_classes
    if not is_kind(owner.target_kind):
        kinds = ", ".join(get_args(TargetKind))
        raise InputError(f"{name}.target_kind is {owner.target_kind!r}; choose one of {kinds}")
    least = 2 if owner.target_kind == "classes" else 1
    if not isinstance(classes, Integral) or int(classes) < least:
        raise InputError(f"{name}.num_classes is {classes!r}; give the number of {owner.target_kind}, at least {least}")
    shape = owner.input_shape
    if not isinstance(shape, tuple | list) or not all(isinstance(side, Integral) and int(side) > 0 for side in shape):
        raise InputError(f"{name}.input_shape is {shape!r}; give the shape of a sample, such as (1, 28, 28) or (13,)")


def warn_of_losses(
    train: Split,
    *,
    labels: IntArray,
    names: tuple[str, ...] | None,
    known_statistics: bool,
    rows: IntArray,
    left: IntArray,
) -> None:
    """Warn of classes and inputs that teach nothing.

    Args:
        train: The training part.
        labels: Class of each of its samples.
        names: Names of the features, for the message; None: they are numbered.
        known_statistics: Whether the mean is known, so that inputs are not looked at.
        rows: Rows that are used.
        left: Those of them that the server leaves to the participants.

    Raises:
        InputError: All inputs are equal.
    """
    inputs = train.inputs
    gone = np.setdiff1d(labels[rows], labels[left]).tolist()
    if gone:
        warnings.warn(
            f"data: class {gone[0]} has one training sample, which the server keeps for validation: nobody learns"
            f" it ({len(gone)} classes like it). Add samples, or leave the class out.",
            stacklevel=2,
        )
    if inputs.dtype == torch.int64 or known_statistics:
        return
    over = [dimension for dimension in range(inputs.ndim) if dimension != 1]
    used = inputs[rows]
    constant = torch.nonzero(used.amax(over) == used.amin(over)).flatten().tolist()
    if len(constant) == inputs.shape[1]:
        raise InputError("data: all training inputs are alike, so that nothing can be learned; check them")
    if constant:
        kind = "channel" if inputs.ndim == 4 else "feature"
        shown = constant[0] if names is None else repr(names[constant[0]])
        warnings.warn(
            f"data: {kind} {shown} is the same in all training samples and tells nothing ({len(constant)} of"
            f" {inputs.shape[1]} are). Leave it out, unless that is expected.",
            stacklevel=2,
        )
