"""What is wrong with arrays of inputs or classes, together with the numpy line that mends it."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Most different classes of labels, as a share of the samples; more are measured values.
MOST_CLASSES = 0.5


def input_fault(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Return what is wrong with inputs by their header, and the line that mends it; None if nothing is.

    Args:
        name: Name of the array.
        shape: Its shape.
        dtype: Its type.

    Example:
        >>> input_fault("x_train", (60, 8, 8), np.dtype(np.uint8))
        >>> input_fault("x_train", (60, 3, 8, 8), np.dtype(np.uint8))
        'has its channels first; write x_train = numpy.moveaxis(x_train, 1, -1)'
        >>> input_fault("x_train", (60, 13), np.dtype(np.int32))
        'holds whole numbers of a type that stands for nothing here; write x_train = x_train.astype(numpy.float32)'
    """
    if dtype.kind == "O":
        return f"holds Python objects; write {name} = numpy.stack({name}).astype(numpy.float32)"
    if dtype.kind in "US":
        return f"holds texts; if they are digits, write {name} = {name}.astype(numpy.float32), else see TableData"
    if dtype.kind == "b":
        return f"holds truth values; write {name} = {name}.astype(numpy.float32)"
    if dtype.kind in "iu" and dtype != np.uint8:
        return (
            f"holds whole numbers of a type that stands for nothing here; write {name} = {name}.astype(numpy.float32)"
        )
    if dtype != np.uint8 and dtype.kind != "f":
        return f"is no array of numbers; write {name} = {name}.astype(numpy.float32)"
    if 0 in shape:
        return "is empty; give samples"
    if len(shape) == 1:
        return f"has one number a sample; write {name} = {name}[:, None]"
    if len(shape) == 4 and shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        return f"has its channels first; write {name} = numpy.moveaxis({name}, 1, -1)"
    flat = f"for vectors write {name} = {name}.reshape(len({name}), -1)"
    if len(shape) == 4 and shape[3] not in (1, 3, 4):
        return f"has {shape[3]} channels, and images have 1, 3 or 4; {flat}"
    if len(shape) > 4:
        return f"has {len(shape) - 1} dimensions a sample, and images have 2 or 3; {flat}"
    return None


def label_type_fault(name: str, dtype: np.dtype[Any]) -> str | None:
    """Return what is wrong with the type of labels, and the line that mends it; None if nothing is.

    Args:
        name: Name of the array.
        dtype: Its type.

    Example:
        >>> label_type_fault("y_train", np.dtype(bool))
        'holds truth values; write y_train = y_train.astype(numpy.int64)'
    """
    if dtype.kind == "O":
        return f"holds Python objects; write {name} = {name}.astype(str), then {_numbered(name)}"
    if dtype.kind in "US":
        return f"holds names; write {_numbered(name)}"
    if dtype.kind == "b":
        return f"holds truth values; write {name} = {name}.astype(numpy.int64)"
    if dtype.kind not in "iuf":
        return f"is no array of numbers; write {_numbered(name)}"
    return None


def label_fault(name: str, labels: Array) -> str | None:
    """Return what is wrong with labels of a numeric type, and the line that mends it; None if nothing is.

    Args:
        name: Name of the array.
        labels: Its values.

    Example:
        >>> label_fault("y_train", np.array([[0], [1]]))
        >>> label_fault("y_train", np.eye(3)[[0, 2, 1]])
        'is one-hot; write y_train = y_train.argmax(1)'
        >>> label_fault("y_train", np.array([0.0, 1.0, 1.0]))
        'holds classes as floats; write y_train = y_train.astype(numpy.int64)'
    """
    # Keras stores the labels of CIFAR as a column.
    if labels.shape not in {(labels.size,), (labels.size, 1)}:
        return _several_labels(name, labels)
    if labels.dtype.kind != "f":
        return None
    if not np.isfinite(labels).all():
        return f"holds NaN or infinity; leave those samples out: kept = numpy.isfinite({name})"
    if (labels == np.round(labels)).all() and len(np.unique(labels)) <= max(2, MOST_CLASSES * labels.size):
        return f"holds classes as floats; write {name} = {name}.astype(numpy.int64)"
    return (
        "holds measured values, and only classes can be learned; cut them into ranges: edges = numpy.quantile(y_train, "
        f"[0.25, 0.5, 0.75]) and {name} = numpy.digitize({name}, edges)"
    )


def gap_remedy(name: str) -> str:
    """Return the line that numbers classes from 0 without a gap.

    Args:
        name: Name of the array.

    Example:
        >>> gap_remedy("y_train")
        'write classes, y_train = numpy.unique(y_train, return_inverse=True)'
        >>> gap_remedy("y_test")
        'write y_test = numpy.searchsorted(classes, y_test) with the classes of the training labels'
    """
    return f"write {_numbered(name)}"


def _several_labels(name: str, labels: Array) -> str:
    """Return what is wrong with labels of several columns."""
    if labels.ndim != 2:
        return f"has {labels.ndim} dimensions; give one class a sample, shape ({len(labels) if labels.ndim else 0},)"
    if np.isin(labels, (0, 1)).all():
        if (labels.sum(1) == 1).all():
            return f"is one-hot; write {name} = {name}.argmax(1)"
        return f"holds several labels a sample, and one class can be learned; choose a column: {name} = {name}[:, 0]"
    return f"has {labels.shape[1]} numbers a sample; if they are scores of the classes, write {name} = {name}.argmax(1)"


def _numbered(name: str) -> str:
    if "train" in name:
        return f"classes, {name} = numpy.unique({name}, return_inverse=True)"
    return f"{name} = numpy.searchsorted(classes, {name}) with the classes of the training labels"
