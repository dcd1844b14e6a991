"""Process-wide settings that change results: set for a computation, and restored afterwards.

A caller may have set an autocast, another default type, a number of threads or a seed. No result depends on them, and
the caller's settings are unchanged afterwards.
"""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from aequa_lightning.runtime.start_up import printing_anything

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def own_settings(*, threads: int = 1, seed: int = 0) -> Iterator[None]:
    """Run a command with fixed settings.

    Within the block the number of threads, the modes of torch (see :func:`plain_modes`), its default type and device,
    the three global generators, and cuDNN have fixed settings; the caller's are restored after it.

    Args:
        threads: Threads of an operation on the CPU, >= 1.
        seed: Seed of torch's, numpy's and Python's global generators, in [0, 2**32).

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with own_settings(threads=1):
        ...     torch.get_num_threads(), torch.zeros(1).dtype
        (1, torch.float32)
        >>> torch.get_default_dtype()
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    with plain_computation(threads=threads), own_generators(seed), _repeatable_on_gpus(), printing_anything():
        _keep_autograd_forkable()
        yield


def _keep_autograd_forkable() -> None:
    """Run a backward pass on a machine without a GPU, before ``torch.export`` registers fake ones.

    At its first backward pass in a process autograd starts a thread for each device, and forked processes can then no
    longer train. ``torch.export`` registers GPUs that do not exist, for tensors without data.
    """
    if not torch.accelerator.is_available():
        torch.ones((), requires_grad=True).backward()


@contextmanager
def plain_computation(*, threads: int = 1) -> Iterator[None]:
    """Compute with a number of threads, in plain modes, with new tensors on the CPU in float32 by default."""
    with thread_count(threads), plain_modes(), _defaults():
        yield


@contextmanager
def thread_count(number: int) -> Iterator[None]:
    """Set the number of threads of an operation on the CPU, in torch and in numpy's linear algebra.

    The rounding of sums depends on their division among threads, so another number of threads gives other bits.

    Args:
        number: >= 1.

    Example:
        >>> before = torch.get_num_threads()
        >>> with thread_count(3):
        ...     torch.get_num_threads()
        3
        >>> torch.get_num_threads() == before
        True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(limits=number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def plain_modes() -> Iterator[None]:
    """Compute with gradients, without autocast, and with torch's default algorithms and precision.

    This turns off ``no_grad``, inference mode, anomaly detection (which ends a run where the engine would reject one
    update), deterministic algorithms (some operations have none, and raise), a lower precision of float32 products, and
    numpy's floating-point errors.

    Example:
        >>> with torch.no_grad(), torch.autocast("cpu"), plain_modes():
        ...     torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        (True, False)
    """
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        stack.enter_context(_any_algorithm())
        stack.enter_context(_full_products())
        stack.enter_context(np.errstate(all="warn", under="ignore"))
        yield


@contextmanager
def own_generators(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators, and restore their states afterwards.

    Args:
        seed: In [0, 2**32).

    Example:
        >>> random.seed(7)
        >>> with own_generators(0):
        ...     _ = random.random()
        >>> round(random.random(), 4)
        0.3238
    """
    python, of_numpy, of_torch, first = random.getstate(), np.random.get_state(), torch.get_rng_state(), _first_seed()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        elif torch.cuda.is_initialized():
            # As torch does when a GPU is first used after ``manual_seed``.
            torch.cuda.manual_seed_all(first)


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of each part of a module after the block.

    Example:
        >>> layers = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with keeping_modes(layers):
        ...     _ = layers.eval()
        >>> layers.training, layers[0].training, layers[1].training
        (True, True, False)
    """
    before = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put all parts of a module into evaluation mode within the block, and back into their own modes afterwards.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(network):
        ...     [part.training for part in network]
        [False, False]
        >>> [part.training for part in network]
        [True, False]
    """
    with keeping_modes(module):
        module.eval()
        yield


def _first_seed() -> int:
    """Return the caller's seed of torch, which a GPU takes over when it is first used."""
    return torch.default_generator.initial_seed()


@contextmanager
def _defaults() -> Iterator[None]:
    """Make float32 and the CPU the defaults of new tensors."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as stack:
            # A device context slows down every operation, so the CPU is set only where it is not the default.
            if torch.get_default_device() != torch.device("cpu"):
                stack.enter_context(torch.device("cpu"))
            yield
    finally:
        torch.set_default_dtype(dtype)


@contextmanager
def _any_algorithm() -> Iterator[None]:
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)


@contextmanager
def _full_products() -> Iterator[None]:
    """Compute products of float32 matrices in float32; a lower precision depends on the processor."""
    backends: list[Any] = []
    former: str | list[str]
    try:
        former = torch.get_float32_matmul_precision()
    except RuntimeError:
        # It was set by attributes of newer torch versions, which this function does not support.
        backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
        former = [backend.fp32_precision for backend in backends]
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if isinstance(former, str):
            torch.set_float32_matmul_precision(former)
        else:
            for backend, precision in zip(backends, former, strict=True):
                backend.fp32_precision = precision


@contextmanager
def _repeatable_on_gpus() -> Iterator[None]:
    """Choose deterministic kernels of cuDNN and cuBLAS, so that a seed gives the same result on GPUs."""
    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS)
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    # cuBLAS reads the variable when it is initialised.
    os.environ.setdefault(CUBLAS, ":4096:8")
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        if workspace is None:
            os.environ.pop(CUBLAS, None)
