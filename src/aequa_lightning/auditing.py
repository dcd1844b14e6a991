"""The audit of a run folder: every file that participants were given, against the run's own state."""

from pathlib import Path

import torch
from rich.console import Console

from aequa_lightning.checks import check_parameters
from aequa_lightning.collaboration.checkpoint import load_last
from aequa_lightning.errors import InputError
from aequa_lightning.events import read_events
from aequa_lightning.files import write_json
from aequa_lightning.rewards.audit import audit_reward, audit_table, describe_audit, held_in_rounds
from aequa_lightning.rewards.manifest import read_manifest
from aequa_lightning.training import SlimmableClassifier


def audit_run(run_dir: Path, model: SlimmableClassifier, *, public_key: Path | None = None) -> bool:
    """Prove of each reward file of a finished run what it holds and what it does not; writes ``audit.json``.

    Args:
        run_dir: The run folder.
        model: The run's model.
        public_key: PEM file of the Ed25519 key that must have signed the manifest; None: any may have.

    Returns:
        Whether every file holds exactly what was earned.

    Raises:
        InputError: The run folder holds no finished run, or its manifest is not what was signed.
    """
    rows, state = read_manifest(run_dir / "rewards", public_key=public_key), load_last(run_dir / "checkpoints")
    if state is None:
        raise InputError(f"run_dir={str(run_dir)!r} holds no checkpoint to compare with; finish the run first.")
    check_parameters(model, state)
    model.load_state_dict(state["state_dict"], strict=False)
    findings = []
    for index, row in enumerate(rows):
        if state["models"] is not None:
            trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
            torch.nn.utils.vector_to_parameters(state["models"][index], trainable)
        findings.append(audit_reward(run_dir / "rewards", row, network=model.network))
    held = held_in_rounds(read_events(run_dir / "events.jsonl"))
    content = describe_audit(findings, model.network, held)
    write_json(run_dir / "audit.json", {"signature": public_key and "verified", **content})
    console = Console()
    console.print(audit_table(findings, held))
    if public_key is not None:
        console.print(f"signature  verified by {public_key}", highlight=False, soft_wrap=True)
    return content["sound"] is True
