"""The state of a run, which every part reads: in each process the same, but for what it hosts."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.cheating import Cheating, cheated_data
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.evaluation import Evaluator
from aequa_lightning.engine.local.buffers import check_state
from aequa_lightning.engine.local.cache import SampleCache
from aequa_lightning.engine.local.cache_key import training_key
from aequa_lightning.engine.local.optimizers import options_by_round
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.processes.signals import StopRequest
from aequa_lightning.engine.processes.status import ProcessStatus
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.privacy import PrivateAverage
from aequa_lightning.engine.server.server import Server
from aequa_lightning.engine.standalone import standalone_records
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import EventLog
from aequa_lightning.slimmable import Distillation

ADDRESS = re.compile(" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Stacking:
    """How many participants train in one step.

    Attributes:
        size: Most participants of a stack; 1: they train one by one.
        reason: Why, in words.
    """

    size: int
    reason: str


@dataclass
class RunProgress:
    """What changes while a run trains. The loop and a resume write it; all others read it as attributes of the run.

    Attributes:
        round: Number of rounds that are done.
        widths: Width that each participant holds, (N,); whoever is absent keeps what it received last.
        models: Where everybody has a model of its own, all of them, of shape (N, P); None: all start from the server's.
        cohort: Who takes part in the round.
        distillation: Which widths learn from another one in the round; None: none, or as the model says.
        reward_source: What rewards would be cut from if the run ended with the round.
        stacking: How many participants train in one step.
        earlier_seconds: Time that the run took before it was interrupted.
    """

    widths: list[float]
    models: Tensor | None = None
    round: int = 0
    cohort: Cohort = field(default_factory=lambda: Cohort([]))
    distillation: Distillation | None = None
    reward_source: RewardSource = field(default_factory=RewardSource)
    stacking: Stacking = field(default_factory=lambda: Stacking(1, "not decided yet"))
    earlier_seconds: float = 0.0


class Run:
    """One run as a process sees it: the server's parameters, the participants' data, how far the run is.

    All processes hold the same server parameters and take the same decisions; the global rank 0 writes the files.

    Args:
        fabric: A launched Fabric.
        classifier: The shared model; its present parameters are the server's first.
        data: Set up or not; the server's validation part calibrates and decides, the test part is only reported.
        config: What to do.

    Attributes:
        progress: Written by :mod:`~aequa_lightning.engine.loop` and :mod:`~aequa_lightning.engine.resume` alone.
        samples: Number of training samples of each participant, (N,).
        grid: Widths that participants train.
        schedule: The optimizer's options in each round, for those who train alone.
        initial: Parameters that everybody who trains alone starts from, of shape (P,).
        standalone: What everybody reaches alone; None where nobody trains alone.

    Raises:
        InputError: A participant has no samples, or model, data and config do not fit each other.
    """

    def __init__(
        self, fabric: Fabric, classifier: SlimmableClassifier, data: CollaborativeData, *, config: RunConfig
    ) -> None:
        data.setup("fit")
        data = cheated_data(data, config.adversaries)
        self.fabric, self.classifier, self.data, self.config = fabric, classifier, data, config
        self.topology = Topology(fabric)
        self.samples = [len(data.participant(index)) for index in range(data.participants)]
        if 0 in self.samples:
            raise InputError(
                f"data: {data.names[self.samples.index(0)]} has no samples; set data.min_samples to 1 or more."
            )
        check_state(classifier, data.participant(0), device=self.topology.device, augmentation=data.augmentation)
        self.local = LocalTrainer(
            fabric, classifier, batch_size=data.batch_size, seed=config.seed, augmentation=data.augmentation
        )
        self.masks = WidthMasks(classifier.network, self.topology.device)
        self.server = Server(self.local.parameters.clone(), config.aggregator, self.masks, self.topology)
        self.grid = classifier.network.widths if config.mechanism.trains_all_widths else (1.0,)
        self.schedule = options_by_round(self.local.optimizer.optimizer, self.local.scheduler, config.max_rounds)
        self.initial = self.parameters.clone()
        self.standalone = standalone_records(config, self.local, data, self.schedule) if config.standalone else None
        self.cheating = Cheating(config.adversaries, self.parameters, seed=config.seed)
        self.evaluator = Evaluator(classifier.network, self.topology, calibration=data.validation())
        self.private_average = self._build_private_average()
        self.stop = StopRequest()
        self.status = ProcessStatus(config.run_dir, self.topology.rank)
        self.checkpoints = config.run_dir / "checkpoints"
        self.events = EventLog(config.run_dir / "events.jsonl")
        self.progress = RunProgress([1.0] * data.participants)
        if config.mechanism.own_models:
            self.progress.models = self.parameters.repeat(data.participants, 1)
        self._samples_on_device = SampleCache(data, self.topology.device)
        self._began = time.perf_counter()

    def _build_private_average(self) -> PrivateAverage | None:
        config, data = self.config, self.data
        if config.privacy is None:
            return None
        key = training_key(self.local, data, work=config.work, schedule=self.schedule[:1], compiled=config.compile)
        # Default reprs contain addresses, which differ between processes: strip them.
        settings = ADDRESS.sub("", f"{key} {self.classifier.hparams} {config.settings}")
        return PrivateAverage(
            config.privacy,
            participants=data.participants,
            per_round=config.participants_per_round,
            seed=config.seed,
            settings=self.fabric.broadcast(settings),
        )

    # --- how far the run is --------------------------------------------------------------------------------------

    @property
    def round(self) -> int:
        """Number of rounds that are done."""
        return self.progress.round

    @property
    def cohort(self) -> Cohort:
        """Who takes part in the round."""
        return self.progress.cohort

    @property
    def widths(self) -> list[float]:
        """Width that each participant holds, (N,)."""
        return self.progress.widths

    @property
    def models(self) -> Tensor | None:
        """Models that the participants have of their own, of shape (N, P); None: all start from the server's."""
        return self.progress.models

    @property
    def distillation(self) -> Distillation | None:
        """Which widths learn from another one in the round."""
        return self.progress.distillation

    @property
    def reward_source(self) -> RewardSource:
        """What rewards would be cut from if the run ended with the round."""
        return self.progress.reward_source

    @property
    def stacking(self) -> Stacking:
        """How many participants train in one step."""
        return self.progress.stacking

    @property
    def seconds(self) -> float:
        """Time of the run so far, earlier sessions included."""
        return self.progress.earlier_seconds + time.perf_counter() - self._began

    # --- the shared model ----------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Tensor:
        """The server's parameters, of shape (P,)."""
        return self.server.parameters

    def load_server_parameters(self) -> None:
        """Copy the server's parameters into the model."""
        self.local.parameters.copy_(self.parameters)

    @property
    def has_trained(self) -> bool:
        """Whether the model's weights in this process differ from those that the run was built with."""
        return not torch.equal(self.local.parameters, self.initial)

    @contextmanager
    def model_at(self, parameters: Tensor) -> Iterator[SlimmableClassifier]:
        """Give the model other parameters for a while; afterwards it holds the server's again.

        Args:
            parameters: Shape (P,).
        """
        self.local.parameters.copy_(parameters)
        try:
            yield self.classifier
        finally:
            self.load_server_parameters()

    # --- participants --------------------------------------------------------------------------------------------

    def participant(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a participant's inputs and targets on the device."""
        return self._samples_on_device[index]

    def work(self, index: int) -> LocalWork:
        """Return a participant's local work in a round, cut to its step budget."""
        steps = self.config.participation.steps(index)
        return self.config.work.within(steps, self.samples[index], self.data.batch_size)

    def status_of(self, *indices: int) -> Mapping[str, Any]:
        """Return what the process status says while these participants train."""
        names = ", ".join(self.data.names[index] for index in indices[:3])
        more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
        return {"participant": names + more, "batch_size": self.data.batch_size}

    # --- this process --------------------------------------------------------------------------------------------

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the run's files."""
        return self.topology.rank == 0

    def is_stopping(self) -> bool:
        """Return whether any process has been asked to stop; a collective operation."""
        return self.topology.any(self.stop.received is not None)

    def record(self, event: str, **fields: Any) -> None:
        """Append an event to the run's record."""
        if self.is_global_zero:
            self.events.append(event, **fields)
