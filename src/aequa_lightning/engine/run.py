"""The collaboration: rounds of local training and averaging, on any number of processes."""

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.cheating import Cheating, cheated_data
from aequa_lightning.engine.checkpoint import go_on_from, oldest_round, save_checkpoint
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.config import Plan
from aequa_lightning.engine.evaluation import Evaluator
from aequa_lightning.engine.local.buffers import check_state
from aequa_lightning.engine.local.cache import SampleCache
from aequa_lightning.engine.local.cache_key import training_key
from aequa_lightning.engine.local.optimizers import options_by_round, options_of
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.processes.failure import is_lost_contact
from aequa_lightning.engine.processes.signals import StopRequest
from aequa_lightning.engine.processes.status import ProcessStatus
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.records import describe_round, describe_run, write_round
from aequa_lightning.engine.resume import state_of
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.rounds import Aggregate, ParticipantReport, merge_reports
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.privacy import PrivateAverage
from aequa_lightning.engine.server.server import Server
from aequa_lightning.engine.stacking.sizing import Stacking, decide_stacking
from aequa_lightning.engine.standalone import standalone_records
from aequa_lightning.engine.standalone_training import train_alone
from aequa_lightning.engine.stopwatch import Stopwatch
from aequa_lightning.errors import InputError, RunInterrupted
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import EventLog, latest_rounds, read_events, write_metrics
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.slimmable import Distillation

ADDRESS = re.compile(" at 0x[0-9a-f]+")


class Collaboration:
    """One run as a process sees it: the server's parameters, the participants hosted here, and what to record.

    All processes hold the same server parameters and take the same decisions; the global rank 0 writes the files.

    Args:
        fabric: A launched Fabric.
        classifier: The shared model; its present parameters are the server's first.
        data: Set up or not; the server's validation part calibrates and decides, the test part is only reported.
        plan: What to do.
        callbacks: Called in order.

    What callbacks may set, alike in all processes:

    Attributes:
        widths: What everybody holds; whoever is absent keeps what it received last.
        grid: Widths that participants train: those of the model, unless whole models are paid with.
        distillation: Which of these widths learn from another one in the round.
        models: Where everybody has a model of its own, all of them, of shape (N, P).
        payable: What rewards would be cut from if the run ended with the round.
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
        data = cheated_data(data, plan.adversaries)
        self.fabric, self.classifier, self.data, self.plan, self.callbacks = fabric, classifier, data, plan, callbacks
        self.topology = Topology(fabric)
        self.samples = [len(data.participant(index)) for index in range(data.participants)]
        if 0 in self.samples:
            raise InputError(
                f"data: {data.names[self.samples.index(0)]} has no samples; set data.min_samples to 1 or more."
            )
        check_state(classifier, data.participant(0), device=self.topology.device, augmentation=data.augmentation)
        self.local = LocalTrainer(
            fabric, classifier, batch_size=data.batch_size, seed=plan.seed, augmentation=data.augmentation
        )
        self.masks = WidthMasks(classifier.network, self.topology.device)
        self.server = Server(self.local.parameters.clone(), plan.aggregator, self.masks, self.topology)
        # The optimizer's options in each round, for those who train alone.
        self.schedule = options_by_round(self.local.optimizer.optimizer, self.local.scheduler, plan.max_rounds)
        # Training alone starts where the first round started, also after a resume.
        self._initial = self.parameters.clone()
        self.cheating = Cheating(plan.adversaries, self.parameters, seed=plan.seed)
        self.evaluator = Evaluator(classifier.network, self.topology, calibration=data.validation())
        self.round = 0
        # As if the run had never been interrupted.
        self.began = time.perf_counter()
        self.stop = StopRequest()
        self.status = ProcessStatus(plan.run_dir, self.topology.rank)
        # What everybody reaches alone; None where nobody trains alone.
        self.standalone = standalone_records(plan, self.local, data, self.schedule) if plan.standalone else None
        self._checkpoints = plan.run_dir / "checkpoints"
        self._events = EventLog(plan.run_dir / "events.jsonl")
        # Who takes part in the round.
        self.cohort = Cohort([])
        self.widths = [1.0] * data.participants
        self.grid: tuple[float, ...] = classifier.network.widths
        self.distillation: Distillation | None = None
        self.models: Tensor | None = None
        self.reward_source = RewardSource()
        self._samples_on_device = SampleCache(data, self.topology.device)
        self.private: PrivateAverage | None = None
        if plan.privacy is not None:
            key = training_key(self.local, data, work=plan.work, schedule=self.schedule[:1], compiled=plan.compile)
            self.private = PrivateAverage(
                plan.privacy,
                participants=data.participants,
                per_round=plan.participants_per_round,
                seed=plan.seed,
                # Of what has no name but its address, every process would have one of its own.
                settings=fabric.broadcast(ADDRESS.sub("", f"{key} {classifier.hparams} {plan.settings}")),
            )
        self.stacking = Stacking(1, "not decided yet")
        self.cohort_trainer = CohortTrainer(self)
        self.call("setup")

    @property
    def parameters(self) -> Tensor:
        """The server's parameters, of shape (P,)."""
        return self.server.parameters

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the run's files."""
        return self.topology.rank == 0

    def is_stopping(self) -> bool:
        """Tell whether any process has been asked to stop; a collective operation."""
        return self.topology.any(self.stop.received is not None)

    @property
    def seconds(self) -> float:
        """Time of the run so far, earlier sessions included."""
        return time.perf_counter() - self.began

    # --- the run -------------------------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train to the last round, from wherever the run stands.

        Returns:
            True when finished; False when a signal stopped it, with its state saved.
        """
        if self.plan.compile:
            self.classifier.compile()
        with self.stop.listening():
            try:
                self.cohort_trainer.check()
                events = read_events(self._events.path)
                self.stacking = decide_stacking(self, events)
                # No process refuses anything any more, and what is there may be overwritten.
                self.fabric.barrier()
                if self.is_global_zero:
                    go_on_from(self._checkpoints, self.round)
                    if self.plan.configuration is not None:
                        write_atomically(self.plan.run_dir / "config.yaml", self.plan.configuration.encode())
                self.call("on_fit_start")
                self.record("resume" if events else "start", **describe_run(self))
                if self.is_global_zero:
                    # What an interrupted session did after its last checkpoint will be done, and written, again.
                    kept = [event for event in latest_rounds(events) if event["round"] <= self.round]
                    write_metrics(self.plan.run_dir / "metrics.csv", kept)
                finished = train_alone(self, self._initial) and self._train_rounds() and self._pay()
                if finished:
                    self.record("finish", rounds=self.round, seconds=self.seconds)
                else:
                    self._record_stop()
            except RunInterrupted:
                self._record_stop()
                raise
            finally:
                self.call("on_fit_exit")
            # Here, where a signal is only remembered: the others may still be writing.
            with self.status.at("waiting for the end"):
                self.fabric.barrier()
        return finished

    def _record_stop(self) -> None:
        name = self.stop.received.name if self.stop.received else "on another process"
        self.record("stop", round=self.round, signal=name)

    def record(self, event: str, **fields: Any) -> None:
        """Append an event to the run's record."""
        if self.is_global_zero:
            self._events.append(event, **fields)

    def load_server_parameters(self) -> None:
        """Put the server's parameters into the model."""
        self.local.parameters.copy_(self.parameters)

    def _pay(self) -> bool:
        """Measure, allocate and write the rewards; return False when asked to stop before.

        Raises:
            RunInterrupted: A signal came meanwhile. Nothing has to be saved: the payout begins again from the last
                checkpoint.
        """
        with self.status.at("payout"), self.stop.leaving():
            if self.is_stopping():
                return False
            try:
                self.begin_payout()
                self.call("on_fit_end")
            except Exception as error:
                if self.stop.received is not None and is_lost_contact(error):
                    # The other one has received the signal, too, and has left: here, nothing has to be saved.
                    raise RunInterrupted from error
                raise
        return True

    def begin_payout(self) -> None:
        """Hold what rewards are cut from, in the model too; no round may follow, for it would start from there."""
        if self.reward_source.parameters is not None:
            self.parameters.copy_(self.reward_source.parameters)
        if self.reward_source.models is not None:
            self.models = self.reward_source.models
        self.load_server_parameters()

    # --- the rounds ------------------------------------------------------------------------------------------------

    def _train_rounds(self) -> bool:
        """Do the rounds that are left; return False when asked to stop."""
        while self.round < self.plan.max_rounds:
            self._train_round(self.round + 1)
            with self.status.at("agreeing whether to stop", round=self.round):
                stopping = self.is_stopping()
            if stopping or self.round % self.plan.checkpoint_every == 0 or self.round == self.plan.max_rounds:
                with self.status.at("checkpoint", round=self.round):
                    self.cohort_trainer.sync()
                    state = state_of(self)
                    if self.is_global_zero:
                        save_checkpoint(self._checkpoints, state, keep=self.plan.keep_checkpoints)
                        self.cohort_trainer.prune(oldest_round(self._checkpoints))
            if stopping:
                return False
        return True

    def _train_round(self, number: int) -> None:
        """One round: everybody trains, one reduction, evaluation. The server moves only when all of it went well."""
        watch, at = Stopwatch(), partial(self.status.at, round=number)
        with at("round start"):
            self.cohort = self.plan.participation.draw(
                self.samples, self.plan.participants_per_round, seed=self.plan.seed, round=number
            )
            self.call("on_round_start")
        with watch.phase("training"), at("training"):
            own = self.cohort_trainer.train_all(number)
        with watch.phase("reduction"), at("reduction"):
            reports = merge_reports(own, self.cohort.completed, self.topology)
            average = self._average(number, reports)
            self.server.step(average.mean_update, average.coverage)
            self.cheating.end_round(self.parameters)
            self.cohort_trainer.end_round(number, reports, taken=average.weights)
        self._step_scheduler()
        self.round = number
        with watch.phase("evaluation"), at("evaluation"):
            self.load_server_parameters()
            (accuracy,) = self.evaluator.accuracies(self.grid, [self.data.validation()])
        record = describe_round(self, reports, average)
        record["validation_accuracy"] = {f"{width:g}": value for width, value in accuracy.items()}
        with watch.phase("callbacks"), at("callbacks"):
            updates, mean_update, coverage = self.server.updates, average.mean_update, average.coverage
            result = RoundResult(number, updates, average.weights, coverage, mean_update, accuracy, record)
            self.call("on_round_end", result)
        self.server.end_round()
        record["seconds"], record["seconds_by_phase"] = watch.read()
        with at("record"):
            write_round(self, record)

    def _average(self, number: int, reports: Mapping[int, ParticipantReport]) -> Aggregate:
        """Aggregate the updates that may be and are to be averaged; a collective operation."""
        refused = [index for index, report in reports.items() if report.refused]
        weights = {index: weight for index, weight in self._weights(list(reports)).items() if index not in refused}
        left_out = sorted({index for found in self.call("on_updates", list(weights), refused) for index in found})
        for index in left_out:
            del weights[index]
        noise = None
        if self.private is not None:
            rates = options_of(self.local.optimizer.optimizer)
            noise = self.private.noise(len(self.parameters), round=number, rates=rates)
        mean_update, coverage = self.server.combine(weights, self.widths, noise=noise)
        return Aggregate(weights, left_out, mean_update, coverage)

    def _weights(self, present: Sequence[int]) -> dict[int, float]:
        """Return how much each participant of a round counts."""
        if self.private is not None:
            return dict.fromkeys(present, self.private.weight)
        weights = self.plan.aggregator.weights([self.samples[index] for index in present])
        return dict(zip(present, weights, strict=True))

    def work(self, index: int) -> LocalWork:
        """Return what a participant does in a round."""
        steps = self.plan.participation.steps(index)
        return self.plan.work.within(steps, self.samples[index], self.data.batch_size)

    def participant(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a participant's inputs and targets on the device."""
        return self._samples_on_device[index]

    def serving(self, *indices: int) -> dict[str, Any]:
        """Return what to note while participants train here."""
        names = ", ".join(self.data.names[index] for index in indices[:3])
        more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
        return {"participant": names + more, "batch_size": self.data.batch_size}

    def _step_scheduler(self) -> None:
        if self.local.scheduler is not None:
            with warnings.catch_warnings():
                # A process that hosts nobody in a round has no optimizer step to show.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.local.scheduler.step()

    def call(self, hook: str, *arguments: Any) -> list[Any]:
        """Call a hook of all callbacks, in order; return what they return."""
        return [getattr(callback, hook)(self, *arguments) for callback in self.callbacks]
