"""What a run was made on, for its record."""

import os
import platform
from pathlib import Path

import lightning
import torch


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Name the processor, its cores, the accelerator and the versions that decide a result or a timing.

    Args:
        device: The device this process computes on.

    Example:
        >>> sorted(describe_machine(torch.device("cpu")))
        ['accelerator', 'cores', 'cpu', 'lightning', 'python', 'torch']
    """
    return {
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }


def _processor() -> str:
    # Linux alone says the model's name here; elsewhere the platform module does.
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
