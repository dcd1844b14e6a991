"""Processes as groups x replicas: a group hosts participants in turn, its replicas share a participant's batches."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.accelerators import CPUAccelerator, MPSAccelerator
from lightning.fabric.loggers import Logger
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from aequa_lightning.engine.processes.cluster_environment import check_port, cluster_environment
from aequa_lightning.engine.processes.failure import report_once
from aequa_lightning.engine.processes.hang_detection import detecting_hangs
from aequa_lightning.engine.processes.launcher import ForkLauncher
from aequa_lightning.engine.processes.machine import keep_freed_memory
from aequa_lightning.engine.processes.signals import exiting_while_blocked
from aequa_lightning.engine.processes.status import remove_statuses
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.runtime.process_settings import thread_count


class ReplicaStrategy(DDPStrategy):
    """Data parallelism within a group; groups exchange only the aggregation of a round.

    Args:
        replicas: Processes of a group; must divide the number of processes.
        run_dir: The run folder, which holds the processes' status files.
        **kwargs: As of :class:`~lightning.fabric.strategies.DDPStrategy`.
    """

    def __init__(self, replicas: int, *, run_dir: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replicas, self.run_dir = replicas, run_dir
        # The processes that share a participant with this one, and those of its place in all groups.
        self.same_group: dist.ProcessGroup | None = None
        self.same_replica: dist.ProcessGroup | None = None

    @override
    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        if not self.cluster_environment.creates_processes_externally:
            self._launcher = ForkLauncher(self, self.run_dir)

    @override
    def setup_environment(self) -> None:
        assert self.cluster_environment is not None
        with exiting_while_blocked():
            if self.cluster_environment.node_rank() == self.cluster_environment.local_rank() == 0:
                check_port(self.cluster_environment)
            super().setup_environment()
        ranks = torch.arange(self.world_size).view(-1, self.replicas)
        # (A DeviceMesh makes the same groups, but without the timeout.)
        own = [dist.new_subgroups_by_enumeration(table.tolist(), self._timeout)[0] for table in (ranks, ranks.T)]
        self.same_group, self.same_replica = cast(list[dist.ProcessGroup], own)

    @override
    def setup_module(self, module: Module) -> Module:  # type: ignore[override]
        if self.replicas == 1:
            return module
        options: dict[str, Any] = dict(self._ddp_kwargs)
        if _leaves_parameters_out(module):
            options["find_unused_parameters"] = True  # else DDP waits for their gradients forever
        # On the current stream, unlike Lightning: the backward of a narrow width adds to gradients in place, and
        # autograd would not make another stream wait for that before DDP reads them.
        return DistributedDataParallel(
            module,
            device_ids=self._determine_ddp_device_ids(),
            process_group=self.same_group,
            **options,
        )


def _leaves_parameters_out(module: Module) -> bool:
    """Return whether the full network has parameters that its outputs do not depend on."""
    if not isinstance(module, SlimmableModule):
        return False
    network = copy.deepcopy(module.network.full).cpu().eval()
    network(module.network.example_input.cpu()).sum().backward()
    return any(parameter.grad is None for parameter in network.parameters() if parameter.requires_grad)


class Topology:
    """This process's place among groups and replicas, and the collective operations between them.

    Args:
        fabric: A launched Fabric.
    """

    def __init__(self, fabric: Fabric) -> None:
        strategy = fabric.strategy
        self.device = fabric.device
        self.rank = fabric.global_rank
        self.processes = fabric.world_size
        self._strategy = strategy if isinstance(strategy, ReplicaStrategy) else None
        self.replicas = self._strategy.replicas if self._strategy else 1
        self.groups = self.processes // self.replicas
        self.group, self.replica = divmod(self.rank, self.replicas)

    def sum_over_groups(self, values: Tensor) -> None:
        """Sum a tensor over all groups, in place; replicas of a group are counted once."""
        if self._strategy:
            dist.all_reduce(values, group=self._strategy.same_replica)

    def merge(self, values: Tensor) -> Tensor:
        """Merge a table that each group has filled in for its own participants and left zero elsewhere.

        Args:
            values: Any shape, on the CPU or the device. Of a group's replicas the first one's table is taken, so
                that values that differ between replicas (a time, for instance) become the same.

        Returns:
            The complete table, on the CPU, the same on all processes.
        """
        return self.merge_over_processes(torch.zeros_like(values) if self.replica else values)

    def any_replica(self, flag: bool) -> bool:
        """Return whether the flag is set on any replica of this group."""
        return bool(self.mean_over_replicas(torch.tensor(float(flag), device=self.device)) > 0)

    def mean_over_replicas(self, value: Tensor) -> Tensor:
        """Return the mean of a value over the replicas of this group, the same on each of them."""
        if self._strategy is None or self.replicas == 1:
            return value
        total = value.clone()
        dist.all_reduce(total, group=self._strategy.same_group)
        return total / self.replicas

    def merge_over_processes(self, values: Tensor) -> Tensor:
        """Like :meth:`merge`, for a table that single processes have filled in."""
        table = values.to(self.device, copy=True)
        if self._strategy:
            dist.all_reduce(table)
        return table.cpu()

    def mean_over_processes(self, value: float) -> float:
        """Return the mean of a number over all processes; a collective operation."""
        return float(self.merge_over_processes(torch.tensor(value, dtype=torch.float64))) / self.processes

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any process."""
        return bool(self.merge_over_processes(torch.tensor([int(flag)])).item())


def build_fabric(
    *,
    accelerator: str,
    devices: int | str | list[int],
    num_nodes: int,
    precision: Any,
    replicas: int,
    loggers: Sequence[Logger],
    timeout: timedelta,
    run_dir: Path,
) -> Fabric:
    """Build the Fabric: one process without a process group, forked ones, or those that torchrun or srun has started.

    Args:
        accelerator: As of Fabric: ``cpu``, ``cuda``, ``auto`` ...; ``auto`` never takes an Apple GPU.
        devices: Processes per node; ``auto`` takes all GPUs, and on the CPU the processes that exist already, or one.
        num_nodes: Number of machines.
        precision: As of Fabric.
        replicas: Processes that share a participant; must divide the number of processes.
        loggers: Lightning loggers.
        timeout: Longest wait for another process in a collective operation.
        run_dir: The run folder, which holds the processes' status files.

    Raises:
        InputError: The devices do not exist, the replicas do not divide the processes, or the number of started
            processes is another one.
    """

    def fabric(strategy: str | DDPStrategy) -> Fabric:
        try:
            return Fabric(
                accelerator=accelerator,
                devices=devices,
                num_nodes=num_nodes,
                precision=precision,
                strategy=strategy,
                loggers=list(loggers),
                plugins=[environment],
            )
        except Exception as error:
            # Lightning's MisconfigurationException is a bare Exception.
            raise InputError(
                f"trainer.accelerator={accelerator!r}, trainer.devices={devices!r}, trainer.precision={precision!r} "
                f"cannot be used here: {error}"
            ) from error

    if accelerator == "auto" and MPSAccelerator.is_available():
        accelerator = "cpu"
    environment = cluster_environment(num_nodes)
    single = fabric("auto")
    if isinstance(single.strategy.accelerator, MPSAccelerator):
        raise InputError(
            f"trainer.accelerator={accelerator!r}: Apple's GPUs have no double precision, in which updates are "
            "averaged; set it to cpu."
        )
    started = environment.world_size() if environment.creates_processes_externally else None
    if started is not None and devices == "auto" and isinstance(single.strategy.accelerator, CPUAccelerator):
        devices = max(1, started // num_nodes)
    if single.world_size == 1 and single.strategy.__class__.__name__ == "SingleDeviceStrategy" and started is None:
        if replicas != 1:
            raise InputError(f"trainer.replicas={replicas} needs as many processes: set trainer.devices to a multiple.")
        return single
    strategy = ReplicaStrategy(replicas, run_dir=run_dir, timeout=timeout)
    several = fabric(strategy)
    configured = strategy.num_processes * num_nodes
    if started not in (None, configured):
        raise InputError(
            f"trainer.devices={devices!r} x trainer.num_nodes={num_nodes} is {configured}, but torchrun or SLURM has "
            f"started {started} {'process' if started == 1 else 'processes'}: set trainer.devices to the processes of "
            "a machine and trainer.num_nodes to the machines, or start as many."
        )
    if several.world_size % replicas:
        raise InputError(
            f"trainer.replicas={replicas} does not divide the {several.world_size} processes of "
            f"trainer.devices={devices!r} x trainer.num_nodes={num_nodes}; choose a divisor."
        )
    return several


def launch(
    fabric: Fabric,
    work: Callable[[Fabric], Any],
    *,
    threads: int,
    run_dir: Path,
    timeout: timedelta | None = None,
) -> Any:
    """Run ``work`` in every process of the fabric, then end the process group.

    Args:
        fabric: Not yet launched.
        work: Called with the launched fabric. Rank 0's value must be small and picklable: it may go through a pipe.
        threads: Threads of each process for a CPU operation. The rounding of a sum depends on it, so results are the
            same for any number of processes only if it is the same.
        run_dir: The run folder, which holds the processes' status files.
        timeout: Longest time that a single process may be idle; None: without limit. Each of several waits for the
            others as long as the fabric was told, and is ended after twice this time, when all of them hang.

    Returns:
        Rank 0's value; in processes that torchrun or srun has started, their own.

    Raises:
        InputError: ``work`` found input that cannot be used.
        RunFailed: A process failed, died or hung, and this one reports it.
        SystemExit: A process failed, and another one reports it.
    """

    def body(fabric: Fabric) -> Any:
        torch.set_num_threads(threads)
        keep_freed_memory()
        with _process_group(), watched(fabric):
            return work(fabric)

    def watched(fabric: Fabric) -> AbstractContextManager[None]:
        if timeout is None:
            return nullcontext()
        several = fabric.world_size > 1
        return detecting_hangs(run_dir, fabric.global_rank, 2 * timeout if several else timeout, reports=not forked)

    forked = isinstance(fabric.strategy.launcher, ForkLauncher)
    if fabric.is_global_zero:  # it holds the lock of the run folder
        remove_statuses(run_dir)
    # Forked processes inherit the number of threads.
    with thread_count(threads):
        if forked:
            result = fabric.launch(body)
        else:
            with report_once(run_dir, fabric.global_rank, several=fabric.world_size > 1):
                result = fabric.launch(body)
    if fabric.is_global_zero:
        remove_statuses(run_dir)
    return result


@contextmanager
def _process_group() -> Iterator[None]:
    """Destroy the process group after a barrier, without which gloo aborts processes that still compute."""
    yield
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
