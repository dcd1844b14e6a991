"""Parameters that rewards are cut from when they differ from the server's (best round, fine-tuned)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from aequa_lightning.engine.local.buffers import load_buffers
from aequa_lightning.errors import InputError

if TYPE_CHECKING:
    from aequa_lightning.modules.slimmable_module import SlimmableModule


@dataclass(frozen=True)
class RewardSource:
    """Parameters that rewards are cut from when they differ from the run's; further rounds do not start from them.

    Attributes:
        parameters: Replace the server's parameters, of shape (P,); None: the server's.
        models: Replace the participants' own models, of shape (N, P); None: their own models.
    """

    parameters: Tensor | None = None
    models: Tensor | None = None


def check_paid(run_dir: Path, number: int, state: Mapping[str, Any]) -> None:
    """Check that a run has paid rewards after its last round. A prolonged run may have done so after an earlier one.

    Args:
        run_dir: The run folder.
        number: The round after which it paid.
        state: Its last checkpoint.

    Raises:
        InputError: It has paid after another round.

    Example:
        >>> check_paid(Path("demo"), 6, {"round": 6})
    """
    if number != state["round"]:
        raise InputError(
            f"run_dir={str(run_dir)!r} was paid after round {number}, but its last checkpoint is of round "
            f"{state['round']}; finish it with --ckpt_path last."
        )


def load_reward_source(model: SlimmableModule, state: Mapping[str, Any]) -> None:
    """Load the shared parameters that rewards are cut from into a model.

    Args:
        model: The run's model.
        state: A checkpoint of the run, or of Lightning's Trainer.
    """
    model.load_state_dict(state["state_dict"], strict=False)
    load_buffers(model, state.get("buffers", {}))
    parameters = state.get("reward_source", {}).get("parameters")
    if parameters is not None:
        load_vector(model, parameters)


def load_vector(model: nn.Module, vector: Tensor) -> None:
    """Copy a flat vector into a model's trainable parameters.

    Args:
        model: The model.
        vector: Shape (P,).

    Example:
        >>> import torch
        >>> layer = nn.Linear(1, 1)
        >>> load_vector(layer, torch.tensor([2.0, 3.0]))
        >>> layer.weight.item(), layer.bias.item()
        (2.0, 3.0)
    """
    # torch makes the parameters views of its argument: without a copy the next load would overwrite ``vector``.
    vector_to_parameters(vector.clone(), [value for value in model.parameters() if value.requires_grad])
