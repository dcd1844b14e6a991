"""Reward files: what a participant earned, as a checkpoint and as a program, and nothing more.

The same content gives the same bytes wherever it is written with the same versions of torch and Lightning: the audit
writes each file again and compares.
"""

import copy
import io
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_atomically

KIND = "reward"


def save_reward(
    path: Path, network: nn.Module, *, hyper_parameters: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write a Lightning checkpoint of a plain narrow classifier; see :func:`reward_content`.

    Args:
        path: The file.
        network: The extracted network.
        hyper_parameters: Arguments of :class:`~aequa_lightning.modules.RewardModule`, plain values.
        about: Whose it is and how inputs are to be normalised, plain values.
    """
    content = reward_content(network.state_dict(), hyper_parameters=hyper_parameters, about=about)
    write_atomically(path, serialize(content))


def reward_content(
    tensors: Mapping[str, Tensor],
    *,
    hyper_parameters: Mapping[str, Any],
    about: Mapping[str, Any],
    version: str = lightning.__version__,
) -> dict[str, Any]:
    """Return all that a reward checkpoint holds.

    These are the parameters of its width, its own normalisation statistics, and plain values: no optimizer, no other
    width, nothing that needs this project to be read.

    Args:
        tensors: State dict of the extracted network.
        hyper_parameters: Arguments of :class:`~aequa_lightning.modules.RewardModule`, plain values.
        about: Whose it is and how inputs are to be normalised, plain values.
        version: Version of Lightning that the file is written with.
    """
    return {
        "kind": KIND,
        "state_dict": {f"network.{name}": value for name, value in tensors.items()},
        "hyper_parameters": dict(hyper_parameters),
        "about": dict(about),
        "pytorch-lightning_version": version,
        "epoch": 0,
        "global_step": 0,
    }


def serialize(content: Mapping[str, Any]) -> bytes:
    """Return what ``torch.save`` writes of some content; equal content gives equal bytes.

    Args:
        content: Tensors and plain values, in dicts, lists and tuples.

    Example:
        >>> one, other = {"a": "net" + "work"}, {"a": "".join(["net", "work"])}
        >>> serialize(one) == serialize(other)
        True
    """
    file = io.BytesIO()
    torch.save(_apart(content), file)
    return file.getvalue()


def _apart(value: Any) -> Any:
    """Return a copy in which nothing but equal strings is shared, since pickle writes what is shared only once.

    A view would also carry the whole storage behind it into the file: what is withheld with what is given.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, Mapping):
        return {_apart(key): _apart(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_apart(part) for part in value])
    return value


def is_reward(checkpoint: Mapping[str, Any]) -> bool:
    """Tell whether a loaded checkpoint is a reward, not the state of a run."""
    return checkpoint.get("kind") == KIND


def check_width(width: Any, layers: Any) -> None:
    """Prove that what a file calls a width is one.

    Args:
        width: A number in (0, 1].
        layers: The share of each layer, in (0, 1], by name; None where it is the width's.

    Raises:
        TypeError: It is not.

    Example:
        >>> check_width(0.5, None)
        >>> check_width("wide", None)
        Traceback (most recent call last):
        ...
        TypeError: its width is 'wide', not a number in (0, 1]
    """
    if layers is not None and not (isinstance(layers, dict) and all(isinstance(name, str) for name in layers)):
        raise TypeError("its layers are no shares by name")
    for share in (width, *(layers or {}).values()):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1 or math.isnan(share):
            raise TypeError(f"its width is {share!r:.40}, not a number in (0, 1]")


def export_program(network: nn.Module, example_input: Tensor) -> bytes:
    """Return the network as a ``torch.export`` program with a dynamic batch, which torch alone can run.

    It says nothing of the machine and the source that it was made from.

    Args:
        network: The extracted network, on the CPU.
        example_input: A batch of one, as the network takes it.

    Returns:
        The content of a ``.pt2`` file.

    Raises:
        InputError: The network cannot be exported.
    """
    network = copy.deepcopy(network).eval()
    for tensor in (*network.parameters(), *network.buffers()):
        # The order in which a GPU keeps images would be written, too.
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    # A batch of one would be taken for a constant.
    example = torch.cat([example_input, example_input])
    try:
        with warnings.catch_warnings():
            # Recurrent layers put their own weights, unchanged, into a list anew.
            warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights")
            program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:
        raise InputError(f"model.backbone: torch.export cannot follow this network: {error}") from error
    _forget_origin(program)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _forget_origin(program: ExportedProgram) -> None:
    """Remove from every operation where in the source it comes from: paths, lines, names of classes."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta = {key: value for key, value in node.meta.items() if key == "val"}
