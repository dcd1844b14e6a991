"""The state of a run in one process: server, local trainer, data, progress and record."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.adversary_host import AdversaryHost, replace_samples
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.evaluation import Evaluator
from aequa_lightning.engine.local.cache_key import training_key
from aequa_lightning.engine.local.model_checks import check_state
from aequa_lightning.engine.local.optimizers import options_by_round
from aequa_lightning.engine.local.sample_cache import SampleCache
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
from aequa_lightning.engine.standalone_results import standalone_store
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.run_folder.events import EventLog
from aequa_lightning.slimmable import Distillation

ADDRESS = re.compile(" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Stacking:
    """How many participants train in one step.

    Attributes:
        size: Largest number of participants in a stack; 1: they train one by one.
        reason: Why this size was chosen, for the record.
    """

    size: int
    reason: str


@dataclass
class RunProgress:
    """State that changes during a run. Only the loop and a resume write it; other code reads it from the run.

    Attributes:
        round: Number of rounds that are done.
        widths: Width that each participant holds, (N,); an absent participant keeps its last width.
        models: The participants' own models, of shape (N, P); None: all start from the server's parameters.
        cohort: Participants of the round.
        distillation: Teacher widths of the round; None: those of the model, if any.
        reward_source: Parameters that rewards are cut from if the run ends with this round.
        stacking: Number of participants that train in one step.
        earlier_seconds: Duration of the run's earlier sessions.
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
    """State of one run in this process.

    All processes hold the same server parameters and take the same decisions; global rank 0 writes the files.

    Args:
        fabric: A launched Fabric.
        classifier: The shared model; its present parameters are the server's first.
        data: The participants' data, set up or not. The validation part is used for calibration and decisions, the test
            part is only reported.
        config: Configuration.

    Attributes:
        progress: Written by :mod:`~aequa_lightning.engine.loop` and :mod:`~aequa_lightning.engine.resume` alone.
        samples: Number of training samples of each participant, (N,).
        grid: Widths that participants train.
        schedule: The optimizer's options in each round, for standalone training.
        initial: Initial parameters of standalone training, of shape (P,).
        standalone: Results of standalone training; None: there is no standalone training.
        show: Called with a step of the run, and how much of it is done of how much in all, where somebody watches.

    Raises:
        InputError: A participant has no samples, or model, data and config do not fit each other.
    """

    def __init__(
        self, fabric: Fabric, classifier: SlimmableModule, data: CollaborativeData, *, config: RunConfig
    ) -> None:
        data.setup("fit")
        data = replace_samples(data, config.adversaries)
        self.fabric, self.classifier, self.data, self.config = fabric, classifier, data, config
        self.topology = Topology(fabric)
        self.samples = data.sample_counts()
        if 0 in self.samples:
            raise InputError(
                f"data: {data.names[self.samples.index(0)]} has no samples; set data.min_samples to 1 or more."
            )
        check_state(classifier, data.validation(), device=self.topology.device, augmentation=data.augmentation)
        self.local = LocalTrainer(
            fabric, classifier, batch_size=data.batch_size, seed=config.seed, augmentation=data.augmentation
        )
        self.masks = WidthMasks(classifier.network, self.topology.device)
        self.server = Server(self.local.parameters.clone(), config.aggregator, self.masks, self.topology)
        self.grid = classifier.network.widths if config.mechanism.trains_all_widths else (1.0,)
        self.schedule = options_by_round(self.local.optimizer.optimizer, self.local.scheduler, config.max_rounds)
        self.initial = self.parameters.clone()
        self.standalone = standalone_store(config, self.local, data, self.schedule) if config.standalone else None
        self.adversary_host = AdversaryHost(config.adversaries, self.parameters, seed=config.seed)
        self.evaluator = Evaluator(classifier, self.topology, calibration=data.validation())
        self.private_average = self._build_private_average()
        self.stop = StopRequest()
        self.show: Callable[[str, int, int], None] = lambda step, done, total: None
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
        """Participants of the round."""
        return self.progress.cohort

    @property
    def widths(self) -> list[float]:
        """Width that each participant holds, (N,)."""
        return self.progress.widths

    @property
    def models(self) -> Tensor | None:
        """The participants' own models, of shape (N, P); None: all start from the server's parameters."""
        return self.progress.models

    @property
    def distillation(self) -> Distillation | None:
        """Teacher widths of the round; None: those of the model, if any."""
        return self.progress.distillation

    @property
    def reward_source(self) -> RewardSource:
        """Parameters that rewards are cut from if the run ends with this round."""
        return self.progress.reward_source

    @property
    def stacking(self) -> Stacking:
        """Number of participants that train in one step, and why."""
        return self.progress.stacking

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run, earlier sessions included."""
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
    def model_at(self, parameters: Tensor) -> Iterator[SlimmableModule]:
        """Load other parameters into the model within the block; afterwards it holds the server's again.

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
        return self.config.work.limited_to(steps, self.samples[index], self.data.batch_size)

    def status_fields(self, *indices: int) -> Mapping[str, Any]:
        """Return the fields of the process status during the training of some participants."""
        names = ", ".join(self.data.names[index] for index in indices[:3])
        more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
        return {"participant": names + more, "batch_size": self.data.batch_size}

    # --- this process --------------------------------------------------------------------------------------------

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the run's files."""
        return self.topology.rank == 0

    def is_stopping(self) -> bool:
        """Return whether any process has received a stop signal; a collective operation."""
        return self.topology.any(self.stop.received is not None)

    def record(self, event: str, **fields: Any) -> None:
        """Append an event to ``events.jsonl``; only rank 0 writes."""
        if self.is_global_zero:
            self.events.append(event, **fields)
