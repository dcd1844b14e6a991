"""Reward files: what a participant earned, as a checkpoint and as a program, and nothing more."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.files import write_atomically

KIND = "reward"


def save_reward(
    path: Path, network: nn.Module, *, hyper_parameters: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write a Lightning checkpoint of a plain narrow classifier.

    It holds the parameters of its width, its own normalisation statistics, and plain values: no optimizer, no other
    width, nothing that needs this project to be read.

    Args:
        path: The file.
        network: The extracted network; every tensor owns its storage.
        hyper_parameters: Arguments of :class:`~aequa_lightning.rewards.classifier.RewardClassifier`, plain values.
        about: Whose it is and how inputs are to be normalised, plain values.
    """
    content = io.BytesIO()
    torch.save(
        {
            "kind": KIND,
            # A view would carry the whole storage behind it into the file: what is withheld with what is given.
            "state_dict": {
                f"network.{name}": value.detach().cpu().clone() for name, value in network.state_dict().items()
            },
            "hyper_parameters": dict(hyper_parameters),
            "about": dict(about),
            "pytorch-lightning_version": lightning.__version__,
            "epoch": 0,
            "global_step": 0,
        },
        content,
    )
    write_atomically(path, content.getvalue())


def is_reward(checkpoint: Mapping[str, Any]) -> bool:
    """Tell whether a loaded checkpoint is a reward, not the state of a run."""
    return checkpoint.get("kind") == KIND


def export_program(network: nn.Module, example_input: Tensor) -> bytes:
    """Return the network as a ``torch.export`` program with a dynamic batch, which torch alone can run.

    Args:
        network: The extracted network, on the CPU.
        example_input: A batch of one, as the network takes it.

    Returns:
        The content of a ``.pt2`` file.

    Raises:
        InputError: The network cannot be exported.
    """
    # A batch of one would be taken for a constant.
    example = torch.cat([example_input, example_input])
    try:
        with warnings.catch_warnings():
            # Recurrent layers put their own weights, unchanged, into a list anew.
            warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights")
            program = torch.export.export(network.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:
        raise InputError(f"model.backbone: torch.export cannot follow this network: {error}") from error
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
