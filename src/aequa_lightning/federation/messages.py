"""What server and participants send each other, and its record.

Parameters travel as the bytes of a safetensors file of exactly the slices of a width, so that a message, the file that
records it and the file that an audit makes again are compared byte by byte.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.messages import RECORD

# The kinds, as Flower calls them: what the receiver does, and a name.
FACTS, ALONE, ROUND, REWARD = "query.facts", "train.alone", "train.round", "query.reward"
# Names of the records within a message.
SETTINGS, TENSORS, FILES = "settings", "tensors", "files"


def message_content(
    settings: Mapping[str, Any],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> RecordDict:
    """Return the content of a message.

    Args:
        settings: Plain values, sent as JSON.
        tensors: Parameters by name, sent as one safetensors file; None: none.
        files: Contents of files by name; None: none.

    Example:
        >>> content = message_content({"round": 1}, tensors={"w": torch.ones(2)})
        >>> settings_of(content), tensors_of(content)["w"]
        ({'round': 1}, tensor([1., 1.]))
    """
    content = RecordDict({SETTINGS: ConfigRecord({"json": json.dumps(dict(settings))})})
    if tensors is not None:
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        content[TENSORS] = ArrayRecord({"safetensors": Array("uint8", (len(data),), "safetensors", data)})
    if files is not None:
        content[FILES] = ConfigRecord(dict(files))
    return content


def settings_of(content: RecordDict) -> dict[str, Any]:
    """Return the plain values of a message.

    Raises:
        InputError: It holds none.
    """
    try:
        found = json.loads(str(content.config_records[SETTINGS]["json"]))
    except (KeyError, ValueError) as error:
        raise InputError("the message holds no settings") from error
    if not isinstance(found, dict):
        raise InputError("the message's settings are no mapping")
    return found


def tensor_bytes(content: RecordDict) -> bytes:
    """Return the safetensors file of a message.

    Raises:
        InputError: It holds none.
    """
    try:
        return bytes(content.array_records[TENSORS]["safetensors"].data)
    except KeyError as error:
        raise InputError("the message holds no parameters") from error


def tensors_of(content: RecordDict, *, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return the parameters of a message.

    Args:
        content: The message's content.
        like: Tensors of which names, shapes and types must be the same; None: any.

    Raises:
        InputError: It holds no parameters, or others.
    """
    try:
        found = load(tensor_bytes(content))
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InputError(f"its parameters cannot be read: {error}") from error
    for name in sorted(found.keys() | (like or found).keys()):
        expected = None if like is None else like.get(name)
        if like is not None and expected is None:
            raise InputError(f"it holds {name}, which is not of the width")
        if name not in found:
            raise InputError(f"it lacks {name}")
        if expected is not None and (found[name].shape, found[name].dtype) != (expected.shape, expected.dtype):
            raise InputError(
                f"it holds {name} as {found[name].dtype} of shape {tuple(found[name].shape)}, not {expected.dtype} of "
                f"shape {tuple(expected.shape)}"
            )
    return found


class MessageRecord:
    """Appends what the server sends to ``messages.jsonl`` in the run folder, one JSON object a line.

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / RECORD

    def note(self, kind: str, participant: str, *, number: int, width: float | None, content: RecordDict) -> None:
        """Record a message before it is sent.

        Args:
            kind: Its kind.
            participant: Name of the receiver.
            number: The round; 0 outside of rounds.
            width: The width that the receiver holds; None where it is sent no parameters.
            content: What is sent.
        """
        row: dict[str, Any] = {"kind": kind, "participant": participant, "round": number, "width": width}
        if TENSORS in content:
            data = tensor_bytes(content)
            row |= {"entries": sum(value.numel() for value in load(data).values()), "sha256": _digest(data)}
        if FILES in content:
            files = {name: cast(bytes, data) for name, data in content.config_records[FILES].items()}
            row["files"] = {name: _digest(data) for name, data in files.items()}
        row["bytes"] = sum(record.count_bytes() for record in content.values())
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parameters_digest(parameters: Tensor) -> str:
    """Return the SHA-256 of parameters, hexadecimal.

    Example:
        >>> parameters_digest(torch.zeros(2)) == parameters_digest(torch.zeros(2))
        True
    """
    return _digest(parameters.detach().cpu().numpy().tobytes())
