"""Settings of the process that would change a result: set for our own computation, and given back to the caller.

Whoever calls may have set anything: an autocast, another default type, a number of threads, a seed. What is computed
here depends on none of it, and changes none of it.
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
    """Run a verb under settings of our own.

    Within the block the number of threads, the modes of torch (see :func:`plain_modes`), its default type and device,
    the three global generators, and cuDNN are those of a run; after it they are the caller's again.

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
    """Let autograd see that there is no GPU, before ``torch.export`` stands in for one.

    At its first backward pass in a process autograd starts a thread for each device, and forked processes can then no
    longer train. ``torch.export`` registers GPUs that are not there, for tensors without data.
    """
    if not torch.accelerator.is_available():
        torch.ones((), requires_grad=True).backward()


@contextmanager
def plain_computation(*, threads: int = 1) -> Iterator[None]:
    """Compute with a number of threads, in plain modes, with float32 and the CPU as the defaults of new tensors."""
    with thread_count(threads), plain_modes(), _defaults():
        yield


@contextmanager
def thread_count(number: int) -> Iterator[None]:
    """Let an operation on the CPU have so many threads, in torch and in numpy's linear algebra.

    Sums round by how they are divided among threads, so that an environment with other threads gives other bits.

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
    """Compute without autocast, with gradients, and with the algorithms and the precision that torch has by itself.

    Left out are ``no_grad``, inference mode, the search for anomalies (which ends a run where the engine would refuse
    one update), deterministic algorithms (some operations have none, and raise), a lower precision of float32 products,
    and errors that numpy was told to raise.

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
    """Seed torch's, numpy's and Python's global generators, and put them back to where they were.

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
            # What torch would have done when the caller had used a GPU first.
            torch.cuda.manual_seed_all(first)


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """Leave each part of a module in training or evaluation mode as it was, whatever the block does.

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


def _first_seed() -> int:
    """Return the seed that the caller gave torch, of which a GPU that has not been used yet would make its own."""
    return torch.default_generator.initial_seed()


@contextmanager
def _defaults() -> Iterator[None]:
    """Let new tensors be float32 on the CPU where nothing else is said."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as stack:
            # A device that is set costs time at every operation, so none is where it is the CPU in any case.
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
        # Set by the attributes of newer versions of torch, of which the function knows nothing.
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
    """Choose kernels whose sums do not depend on chance: the same seed is to give the same result on GPUs too."""
    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS)
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    # cuBLAS reads it when it starts.
    os.environ.setdefault(CUBLAS, ":4096:8")
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        if workspace is None:
            os.environ.pop(CUBLAS, None)
