"""Describes the machine for the record, binds processes to cores and tunes the memory allocator."""

import ctypes
import os
import platform
from collections.abc import Collection
from pathlib import Path

import lightning
import torch

# Names of mallopt's parameters in <malloc.h>, and how much freed memory a process may keep.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**28


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next training step.

    By default it returns large blocks to the system and gets them back page by page: hundreds of page faults a step,
    measured as a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def bind_to_cores(place: int, processes: int, *, threads: int) -> None:
    """Bind this process and its later threads to the cores that :func:`own_cores` returns.

    Without binding the system may wake the thread that receives a message on the busy core that sent it: a collective
    operation then takes five times as long.

    Args:
        place: Number of this process on the machine.
        processes: How many there are on it.
        threads: Of each of them.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, own_cores(os.sched_getaffinity(0), place, processes=processes, threads=threads))


def own_cores(allowed: Collection[int], place: int, *, processes: int, threads: int) -> set[int]:
    """Return the cores for one of the processes of a machine.

    Args:
        allowed: The cores that all of them may use, such as those that a SLURM job was given.
        place: Number of the process on the machine, counted from 0.
        processes: How many there are.
        threads: Of each of them.

    Returns:
        As many as it has threads, if the processes then use all allowed cores. Else all of them: another run may use
        the idle ones, and its processes would choose the same cores.

    Example:
        >>> own_cores({4, 5}, 1, processes=2, threads=1), own_cores({4, 5, 6}, 1, processes=2, threads=1)
        ({5}, {4, 5, 6})
    """
    if processes * threads != len(allowed):
        return set(allowed)
    return set(sorted(allowed)[place * threads : (place + 1) * threads])


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
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
