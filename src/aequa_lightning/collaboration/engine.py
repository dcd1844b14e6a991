"""The collaboration: rounds of local training and averaging, on any number of processes."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from aequa_lightning import __version__
from aequa_lightning.collaboration.aggregation import ExactSum, is_acceptable
from aequa_lightning.collaboration.assignment import assign
from aequa_lightning.collaboration.checkpoint import point_last_at, save_checkpoint
from aequa_lightning.collaboration.evaluation import EVALUATION_BATCH, AtWidth, Evaluator, count_correct
from aequa_lightning.collaboration.holdings import Holdings
from aequa_lightning.collaboration.hooks import CollaborationCallback, RoundResult
from aequa_lightning.collaboration.local import LocalTrainer, LocalWork
from aequa_lightning.collaboration.machine import describe_machine
from aequa_lightning.collaboration.robust import RobustAggregator
from aequa_lightning.collaboration.seeding import derive_seed
from aequa_lightning.collaboration.server import Aggregator, Server
from aequa_lightning.collaboration.signals import StopRequest
from aequa_lightning.collaboration.standalone import Standalone, StandaloneRecords, standalone_key
from aequa_lightning.collaboration.stopwatch import Stopwatch
from aequa_lightning.collaboration.topology import Topology
from aequa_lightning.collaboration.whereabouts import Whereabouts
from aequa_lightning.data import CollaborativeData
from aequa_lightning.events import EventLog, append_metrics, latest_rounds, read_events, write_metrics
from aequa_lightning.training import SlimmableClassifier


@dataclass(frozen=True)
class Plan:
    """What a run does, apart from model and data.

    Attributes:
        max_rounds: Number of rounds.
        work: A participant's work in one round.
        participants_per_round: How many take part in a round; None: all.
        aggregator: How updates become one.
        checkpoint_every: Rounds between checkpoints.
        seed: Decides everything random.
        run_dir: The run folder.
        mechanism: Description of how participants are paid, for the record.
        keep_checkpoints: How many rounds' checkpoints stay.
        standalone_dir: Folder in which runs share what participants reach alone; None: they do not.
    """

    max_rounds: int
    work: LocalWork
    participants_per_round: int | None
    aggregator: Aggregator
    checkpoint_every: int
    seed: int
    run_dir: Path
    mechanism: str
    keep_checkpoints: int = 2
    standalone_dir: Path | None = None


class Collaboration:
    """One run as a process sees it: the server's parameters, the participants hosted here, and what to record.

    All processes hold the same server parameters and take the same decisions; the global rank 0 writes the files.

    Args:
        fabric: A launched Fabric.
        classifier: The shared model; its present parameters are the server's first.
        data: Set up or not; the server's validation part calibrates and decides, the test part is only reported.
        plan: What to do.
        callbacks: Called in order.
    """

    def __init__(
        self,
        fabric: Fabric,
        classifier: SlimmableClassifier,
        data: CollaborativeData,
        *,
        plan: Plan,
        callbacks: Sequence[CollaborationCallback],
    ) -> None:
        data.setup("fit")
        self.fabric, self.classifier, self.data, self.plan, self.callbacks = fabric, classifier, data, plan, callbacks
        self.topology = Topology(fabric)
        self.local = LocalTrainer(
            fabric, classifier, batch_size=data.batch_size, seed=plan.seed, augmentation=data.augmentation
        )
        self.parameters = self.local.parameters.clone()
        self.server = Server(self.parameters, plan.aggregator)
        # Training alone starts where the first round started, also after a resume.
        self._initial = self.parameters.clone()
        self.evaluator = Evaluator(classifier.network, self.topology, calibration=data.validation())
        self.round = 0
        self._began = time.perf_counter()
        self.stop = StopRequest()
        self.whereabouts = Whereabouts(plan.run_dir, self.topology.rank)
        self.samples = [len(data.participant(index)) for index in range(data.participants)]
        alone = plan.run_dir / "standalone"
        if plan.standalone_dir is not None:
            work = plan.work.times(plan.max_rounds)
            alone = plan.standalone_dir / standalone_key(self.local, data, work=work)
        self.standalone = StandaloneRecords(alone, data.names)
        self._checkpoints = plan.run_dir / "checkpoints"
        self._events = EventLog(plan.run_dir / "events.jsonl")
        self.widths = [1.0] * data.participants
        # What participants train: the grid of the model, unless the mechanism pays with whole models.
        self.grid: tuple[float, ...] = classifier.network.widths
        # Where the mechanism gives everybody a model of its own, they are here, float32 of shape (N, P).
        self.models: Tensor | None = None
        self.holdings = Holdings(classifier.network, self.topology.device)
        self._sum = ExactSum(self.parameters.numel(), self.topology.device)
        self._resident: dict[int, tuple[Tensor, Tensor]] = {}
        self._call("setup")

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the run's files."""
        return self.topology.rank == 0

    @property
    def seconds(self) -> float:
        """Time of the run so far, earlier sessions included."""
        return time.perf_counter() - self._began

    # --- the run -------------------------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train to the last round, from wherever the run stands.

        Returns:
            True when finished; False when a signal stopped it, with its state saved.
        """
        with self.stop.listening():
            try:
                if self.is_global_zero:
                    point_last_at(self._checkpoints, self.round)
                self._call("on_fit_start")
                events = read_events(self._events.path)
                self.record("resume" if events else "start", **self._description())
                if self.is_global_zero:
                    # What an interrupted session did after its last checkpoint will be done, and written, again.
                    kept = [event for event in latest_rounds(events) if event["round"] <= self.round]
                    write_metrics(self.plan.run_dir / "metrics.csv", kept)
                finished = self._train_standalone() and self._train_rounds()
                if finished:
                    self.load_server_parameters()
                    with self.whereabouts.at("payout"):
                        self._call("on_fit_end")
                    self.record("finish", rounds=self.round, seconds=self.seconds)
                else:
                    name = self.stop.received.name if self.stop.received else "on another process"
                    self.record("stop", round=self.round, signal=name)
            finally:
                self._call("on_fit_exit")
        return finished

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as tensors and plain values."""
        self.load_server_parameters()
        scheduler = self.local.scheduler
        return {
            "kind": "collaboration",
            "round": self.round,
            "participants": self.data.participants,
            "seed": self.plan.seed,
            "seconds": self.seconds,
            "server": self.server.state_dict(),
            "widths": self.widths,
            "models": self.models,
            # Statistics are left out: they are taken anew for whatever width is evaluated.
            "state_dict": {name: value.detach().clone() for name, value in self.classifier.named_parameters()},
            "lr_scheduler": None if scheduler is None else scheduler.state_dict(),
            "callbacks": {type(callback).__name__: callback.state_dict() for callback in self.callbacks},
            "pytorch-lightning_version": lightning.__version__,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.classifier.load_state_dict(state["state_dict"], strict=False)
        self.parameters.copy_(self.local.parameters)
        self.server.load_state_dict(state["server"])
        self.round = state["round"]
        self.widths = state["widths"]
        if self.models is not None:
            self.models.copy_(state["models"])
        self._began -= state["seconds"]
        if self.local.scheduler is not None:
            self.local.scheduler.load_state_dict(state["lr_scheduler"])
            for group, rate in zip(
                self.local.scheduler.optimizer.param_groups, self.local.scheduler.get_last_lr(), strict=True
            ):
                group["lr"] = rate
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(type(callback).__name__, {}))

    def record(self, event: str, **fields: Any) -> None:
        """Append an event to the run's record."""
        if self.is_global_zero:
            self._events.append(event, **fields)

    def load_server_parameters(self) -> None:
        """Put the server's parameters into the model."""
        self.local.parameters.copy_(self.parameters)

    # --- each alone ------------------------------------------------------------------------------------------------

    def _train_standalone(self) -> bool:
        """Train every participant alone that has no result yet; return False when asked to stop."""
        missing: list[int] = self.fabric.broadcast(self.standalone.missing())
        hosted = assign([self.samples[index] for index in missing], self.topology.groups)
        # Everybody takes part in the question whether to stop, so all go through as many turns as the busiest.
        for turn in range(max(map(len, hosted))):
            mine = hosted[self.topology.group]
            if turn < len(mine):
                index = missing[mine[turn]]
                with self.whereabouts.at("training alone", **self._serving(index)):
                    result = self._standalone(index)
                    if self.topology.replica == 0:
                        self.standalone.save(result)
                    self._call("on_standalone_end", index)
            if self.topology.any(self.stop.received is not None):
                return False
        if self.is_global_zero:
            events = read_events(self._events.path)
            recorded = {event["participant"] for event in events if event["event"] == "standalone"}
            for result in self.standalone.all():
                if result.participant not in recorded:
                    self.record("standalone", **vars(result))
        return True

    def _standalone(self, index: int) -> Standalone:
        start = time.perf_counter()
        work = self.plan.work.times(self.plan.max_rounds)
        with self.local.first_rates():
            self.train_from(self._initial, index, work, keys=("standalone", index), grid=(1.0,))
        network = self.classifier.network
        if network.has_statistics:
            # Alone there is no server: the statistics come from the participant's own data.
            inputs, _ = self._participant(index)
            network.recalibrate(inputs.split(EVALUATION_BATCH), [1.0])
        validation, test = (
            count_correct(AtWidth(network, 1.0), part, device=self.topology.device) / len(part)
            for part in (self.data.validation(), self.data.test())
        )
        return Standalone(
            self.data.names[index], self.samples[index], validation, test, seconds=time.perf_counter() - start
        )

    # --- together --------------------------------------------------------------------------------------------------

    def _train_rounds(self) -> bool:
        """Do the rounds that are left; return False when asked to stop."""
        while self.round < self.plan.max_rounds:
            self._train_round(self.round + 1)
            stopping = self.topology.any(self.stop.received is not None)
            if stopping or self.round % self.plan.checkpoint_every == 0 or self.round == self.plan.max_rounds:
                with self.whereabouts.at("checkpoint", round=self.round):
                    state = self.state_dict()
                    if self.is_global_zero:
                        save_checkpoint(self._checkpoints, state, keep=self.plan.keep_checkpoints)
            if stopping and self.round < self.plan.max_rounds:
                return False
        return True

    def _train_round(self, number: int) -> None:
        """One round: everybody trains, one reduction, evaluation. The server moves only when all of it went well."""
        watch, at = Stopwatch(), partial(self.whereabouts.at, round=number)
        self._call("on_round_start")
        present = self._select(number)
        samples = [self.samples[index] for index in present]
        weights = dict(zip(present, self.plan.aggregator.weights(samples), strict=True))
        hosted = [present[place] for place in assign(samples, self.topology.groups)[self.topology.group]]
        # A participant's row: its loss, and whether its update was refused.
        outcome = torch.zeros(self.data.participants, 2, dtype=torch.float64)
        updates: dict[int, Tensor] = {}
        self._sum.reset()
        with watch.phase("training"), at("training"):
            for index in hosted:
                self.whereabouts.note(**self._serving(index))
                loss, update = self._train_participant(number, index)
                if is_acceptable(update) and math.isfinite(loss):
                    updates[index] = update
                    self._sum.add(update, weights[index])
                    outcome[index, 0] = loss
                else:
                    outcome[index, 1] = 1
                self._call("on_participant_end", index)
        with watch.phase("reduction"), at("reduction"):
            self.topology.sum_over_groups(self._sum.total)
            outcome = self.topology.share(outcome)
            accepted = [index for index in present if not outcome[index, 1]]
            accepted_weights = {index: weights[index] for index in accepted}
            coverage = self.holdings.coverage(accepted_weights, self.widths)
            if isinstance(self.plan.aggregator, RobustAggregator):
                size = len(self.parameters)
                mean_update = self.plan.aggregator.combine(updates, accepted, self.topology, size=size)
            else:
                mean_update = self._sum.mean(coverage)
            self.server.step(mean_update, coverage)
        self._step_scheduler()
        self.round = number
        with watch.phase("evaluation"), at("evaluation"):
            self.load_server_parameters()
            (accuracy,) = self.evaluator.accuracies(self.grid, [self.data.validation()])
        record = self._round_record(present, outcome, weights)
        record["validation_accuracy"] = {f"{width:g}": value for width, value in accuracy.items()}
        with watch.phase("callbacks"), at("callbacks"):
            result = RoundResult(number, updates, accepted_weights, coverage, mean_update, accuracy, record)
            self._call("on_round_end", result)
        record["seconds"], record["seconds_by_phase"] = watch.lap()
        with at("record"):
            self._write_round(record)

    def _train_participant(self, number: int, index: int) -> tuple[float, Tensor]:
        """Train one participant from what it holds; return its loss and its update."""
        width, grid = self.widths[index], self.grid
        received = self.parameters if self.models is None else self.models[index]
        if width < 1:
            received = received * self.holdings.mask(width)
            grid = (width, *(other for other in grid if other < width))
        loss = self.train_from(received, index, self.plan.work, keys=("round", number, "participant", index), grid=grid)
        return loss, self.local.parameters - received

    def train_from(
        self,
        parameters: Tensor,
        index: int,
        work: LocalWork,
        *,
        keys: tuple[int | str, ...],
        grid: tuple[float, ...],
    ) -> float:
        """Train a participant from given parameters; what it reaches is in the model.

        Args:
            parameters: Float32 of shape (P,).
            index: The participant.
            work: How much to train.
            keys: What this work is; with the seed they decide everything random in it.
            grid: Widths that the steps draw from.

        Returns:
            The mean loss over steps and widths.
        """
        self.local.parameters.copy_(parameters)
        return self.local.train(*self._participant(index), work, keys=keys, grid=grid)

    def _round_record(self, present: list[int], outcome: Tensor, weights: dict[int, float]) -> dict[str, Any]:
        losses, refused = outcome[:, 0].tolist(), outcome[:, 1].tolist()
        accepted_weight = sum(weights[index] for index in present if not refused[index])
        return {
            "round": self.round,
            "train_loss": sum(weights[index] * losses[index] for index in present) / max(accepted_weight, 1e-12),
            "participants": [
                {
                    "name": self.data.names[index],
                    "samples": self.samples[index],
                    "width": self.widths[index],
                    "loss": losses[index],
                }
                for index in present
            ],
            "rejected": [self.data.names[index] for index in present if refused[index]],
            # Each participant receives what it holds and sends an update of the same size.
            "bytes_sent": 2
            * self.parameters.element_size()
            * sum(self.holdings.count(self.widths[index]) for index in present),
        }

    def _write_round(self, record: dict[str, Any]) -> None:
        """Put a round on record: event, table, loggers, and a warning for every update that was refused."""
        self.record("round", **record)
        accuracies = {f"validation_accuracy/{width}": value for width, value in record["validation_accuracy"].items()}
        self.fabric.log_dict({"round": self.round, "train_loss": record["train_loss"], **accuracies}, step=self.round)
        if not self.is_global_zero:
            return
        append_metrics(self.plan.run_dir / "metrics.csv", record)
        if record["rejected"]:
            warnings.warn(
                f"Round {self.round}: the updates of {', '.join(record['rejected'])} are not finite or exploded and "
                "were left out of the average; lower the learning rate or look at their data.",
                stacklevel=2,
            )

    def _select(self, number: int) -> list[int]:
        """Choose a round's participants: the same in every process, and after a resume."""
        count = self.plan.participants_per_round
        if count is None:
            return list(range(self.data.participants))
        generator = np.random.default_rng(derive_seed(self.plan.seed, "selection", number))
        return sorted(generator.choice(self.data.participants, count, replace=False).tolist())

    def _participant(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a participant's data on the device, where it stays."""
        if index not in self._resident:
            inputs, targets = self.data.participant(index).tensors
            self._resident[index] = inputs.to(self.topology.device), targets.to(self.topology.device)
        return self._resident[index]

    def _serving(self, index: int) -> dict[str, Any]:
        """Return what to note while a participant trains here."""
        return {"participant": self.data.names[index], "batch_size": self.data.batch_size}

    def _step_scheduler(self) -> None:
        if self.local.scheduler is not None:
            with warnings.catch_warnings():
                # A process that hosts nobody in a round has no optimizer step to show.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.local.scheduler.step()

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def _description(self) -> dict[str, Any]:
        """What a reader of the record must know about the run."""
        network = self.classifier.network
        return {
            "round": self.round,
            "version": __version__,
            "processes": self.topology.processes,
            "replicas": self.topology.replicas,
            "device": str(self.topology.device),
            "machine": describe_machine(self.topology.device),
            "data": {
                **self.data.describe(),
                "participants": list(self.data.names),
                "samples": self.samples,
                "class_counts": self.data.class_counts().tolist(),
                "validation": len(self.data.validation()),
                "test": len(self.data.test()),
            },
            "model": {
                "backbone": self.classifier.hparams["backbone"],
                "parameters": self.parameters.numel(),
                "widths": list(network.widths),
            },
            "mechanism": self.plan.mechanism,
            "max_rounds": self.plan.max_rounds,
        }
