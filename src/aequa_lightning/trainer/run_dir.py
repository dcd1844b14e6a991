"""The folder of a run: placeholders in its name, and the folder of a run that only tries everything."""

import os
import re
import shutil
from pathlib import Path

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.lock import NAME

# Set by `wandb agent` for each run of a sweep.
WANDB_ID = "WANDB_RUN_ID"
TRIAL = ".fast_dev_run"


def fill_placeholders(run_dir: str, *, seed: int) -> str:
    """Replace ``{seed}`` and ``{wandb.id}`` in the name of a run folder, so that many runs share a configuration.

    Args:
        run_dir: The name.
        seed: The seed of the run.

    Raises:
        InputError: There is another placeholder, or no run of W&B whose id could be taken.

    Example:
        >>> fill_placeholders("runs/digits-{seed}", seed=7)
        'runs/digits-7'
    """

    def value(found: re.Match[str]) -> str:
        if found[1] == "seed":
            return str(seed)
        if found[1] != "wandb.id":
            raise InputError(f"trainer.run_dir={run_dir!r}: {found[0]} is unknown; use {{seed}} or {{wandb.id}}.")
        if WANDB_ID not in os.environ:
            raise InputError(
                f"trainer.run_dir={run_dir!r}: the environment variable {WANDB_ID} is not set; `wandb agent` sets it, "
                "or set it yourself."
            )
        return os.environ[WANDB_ID]

    return re.sub(r"\{([^{}]*)\}", value, run_dir)


def clear(run_dir: Path) -> None:
    """Delete what an earlier trial has left in its folder; the lock, which this process holds, stays.

    Args:
        run_dir: A folder whose name ends in ``TRIAL``.
    """
    for path in run_dir.iterdir() if run_dir.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != NAME:
            path.unlink()
