"""Safetensors and ONNX files of an extracted network.

A file holds the tensors of the extracted network only, and nothing else of the network that it was cut from.
"""

import copy
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_atomically


def save_safetensors(path: Path, network: nn.Module, *, about: Mapping[str, str] | None = None) -> None:
    """Write a network's parameters and buffers as safetensors, which runs no code when it is read.

    ``network.load_state_dict(safetensors.torch.load_file(path))`` reads them. Tied tensors are written under each of
    their names.

    Args:
        path: The file.
        network: An extracted network.
        about: Text to keep with the tensors.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    write_atomically(path, save(tensors, metadata=dict(about or {})))


def save_onnx(path: Path, network: nn.Module, example_input: Tensor) -> None:
    """Write a network as an ONNX program with a dynamic batch, which runtimes without torch can run.

    The program computes what the network computes in evaluation mode.

    Args:
        path: The file.
        network: An extracted network, on the CPU.
        example_input: A batch of inputs of the expected size; its first dimension is the batch.

    Raises:
        InputError: When the packages ``onnx`` and ``onnxscript`` are missing, or the network cannot be exported.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"onnx: this export needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")
    try:
        program = torch.onnx.export(
            copy.deepcopy(network).eval(),
            (torch.cat([example_input, example_input]),),  # a batch of one would be taken for a constant
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    except Exception as error:
        raise InputError(f"network: ONNX cannot express this network: {error}") from error
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces: paths on the machine that wrote the file
    write_atomically(path, model.SerializeToString())
