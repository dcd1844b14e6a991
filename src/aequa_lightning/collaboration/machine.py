"""The machine of a run: what it is, for the record, and how its memory is used."""

import ctypes
import os
import platform
from pathlib import Path

import lightning
import torch

# Names of mallopt's parameters in <malloc.h>, and how much freed memory a process may keep.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**28


def keep_freed_memory() -> None:
    """Let a process keep what a training step frees for the next step, where the C library can be told so.

    By default glibc hands large blocks back to the system and fetches them again, page by page: hundreds of page faults
    a step, measured as a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


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
