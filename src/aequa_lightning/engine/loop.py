"""The training loop: standalone training, then collaborative rounds, then the payout of rewards.

This is Algorithm 1 of the Aequa paper (slimmable training of a shared model by federated averaging). With a mechanism
that assigns widths in every round it is Algorithm 2.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lightning.fabric import Fabric

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import Callbacks, CollaborationCallback, RoundResult
from aequa_lightning.engine.checkpoint import discard_later_rounds, oldest_round, save_checkpoint
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.optimizers import options_of
from aequa_lightning.engine.processes.failure import is_lost_contact
from aequa_lightning.engine.records import Stopwatch, describe_round, describe_run, write_round
from aequa_lightning.engine.resume import restore, run_state
from aequa_lightning.engine.round_results import Aggregate, ParticipantReport, merge_reports
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.stacking.sizing import decide_stacking
from aequa_lightning.errors import RunInterrupted
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.run_folder.events import latest_rounds, read_events, write_metrics
from aequa_lightning.run_folder.files import write_atomically


class Collaboration:
    """Trains a shared model with all participants, on any number of processes.

    Args:
        fabric: A launched Fabric.
        classifier: The shared model; its present parameters are the server's initial ones.
        data: The participants' data.
        config: Configuration.
        callbacks: In the order of calls.
        cohort: Makes what trains the participants: in these processes, or elsewhere.
    """

    def __init__(
        self,
        fabric: Fabric,
        classifier: SlimmableModule,
        data: CollaborativeData,
        *,
        config: RunConfig,
        callbacks: Sequence[CollaborationCallback],
        cohort: Callable[[Run, Callbacks], CohortTrainer] = CohortTrainer,
    ) -> None:
        self.run = Run(fabric, classifier, data, config=config)
        self.callbacks = Callbacks(callbacks)
        self.cohort_trainer = cohort(self.run, self.callbacks)
        self.callbacks.call("setup", self.run)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run for a checkpoint, as tensors and plain values."""
        return run_state(self.run, self.cohort_trainer, self.callbacks)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`.

        Raises:
            InputError: The state does not fit the run.
        """
        restore(self.run, self.cohort_trainer, self.callbacks, state)

    def fit(self) -> bool:
        """Do the remaining standalone training and rounds, and pay the rewards.

        Returns:
            True: the run is finished; False: a signal has stopped it, and its state is saved.
        """
        run = self.run
        if run.config.compile:
            run.classifier.compile()
        with run.stop.listening():
            try:
                self._begin()
                finished = self.cohort_trainer.train_alone() and self.train_rounds() and self._pay()
                if finished:
                    run.record("finish", rounds=run.round, seconds=run.seconds)
                else:
                    self._record_stop()
            except RunInterrupted:
                self._record_stop()
                raise
            finally:
                self.callbacks.call("on_fit_exit", run)
            # Signals no longer stop this process, because other processes may still be writing.
            with run.status.at("waiting for the end"):
                run.fabric.barrier()
        return finished

    # --- the rounds ----------------------------------------------------------------------------------------------

    def train_rounds(self) -> bool:
        """Do the remaining rounds; return False if a signal has stopped the run."""
        run, config = self.run, self.run.config
        while not self._is_last_round_done():
            self._train_round(run.round + 1)
            with run.status.at("agreeing whether to stop", round=run.round):
                stopping = run.is_stopping()
            if stopping or run.round % config.checkpoint_every == 0 or self._is_last_round_done():
                self._save_checkpoint()
            if stopping:
                return False
        return True

    def _is_last_round_done(self) -> bool:
        run = self.run
        return run.round >= run.config.max_rounds or any(self.callbacks.call("ends_rounds", run))

    def _train_round(self, number: int) -> None:
        """Do one round. If any training fails, the run ends and the shared model is unchanged."""
        run, watch, at = self.run, Stopwatch(), partial(self.run.status.at, round=number)
        with at("round start"):
            self._choose_participants(number)
            self._assign_widths()
        with watch.phase("training"), at("training"):
            own_reports = self.cohort_trainer.train_all(number)
            run.progress.cohort = self.cohort_trainer.answered(run.cohort)
        with watch.phase("reduction"), at("reduction"):
            reports = merge_reports(own_reports, run.cohort.completed, run.topology)
            aggregate = self._average(number, reports)
            run.server.step(aggregate.mean_update, aggregate.coverage)
            run.adversary_host.end_round(run.parameters)
            self.cohort_trainer.end_round(number, reports, averaged=aggregate.weights)
        self._step_scheduler()
        run.progress.round = number
        with watch.phase("evaluation"), at("evaluation"):
            run.load_server_parameters()
            accuracy = run.evaluator.values(run.grid, run.data.validation())
        record = describe_round(run, reports, aggregate, accuracy)
        with watch.phase("callbacks"), at("callbacks"):
            # Callbacks measure contributions here; mechanisms that pay in every round pay here.
            self._call_round_end(aggregate, accuracy, record)
        run.server.forget_updates()
        record["seconds"], record["seconds_by_phase"] = watch.read()
        with at("record"):
            write_round(run, record)

    def _choose_participants(self, number: int) -> None:
        run, config = self.run, self.run.config
        run.progress.cohort = config.participation.draw(
            run.samples, config.participants_per_round, seed=config.seed, round=number
        )

    def _assign_widths(self) -> None:
        # Algorithm 2: a mechanism such as AequaTraining answers with new widths, by the callback `Rewards`.
        assignment = self.callbacks.decide("on_round_start", self.run)
        if assignment is not None:
            self.run.progress.widths = list(assignment.widths)
            self.run.progress.distillation = assignment.distillation

    def _average(self, number: int, reports: Mapping[int, ParticipantReport]) -> Aggregate:
        """Average the updates that are valid and not excluded; a collective operation."""
        run = self.run
        refused = [index for index, report in reports.items() if report.refused]
        weights = {index: weight for index, weight in self._weights(list(reports)).items() if index not in refused}
        exclusions = self.callbacks.call("on_updates", run, list(weights), refused)
        excluded = sorted(set().union(*exclusions))
        for index in excluded:
            del weights[index]
        noise = None
        if run.private_average is not None:
            rates = options_of(run.local.optimizer.optimizer)
            noise = run.private_average.noise(len(run.parameters), round=number, rates=rates)
        only_moved = run.config.mechanism.averaging == "moved"
        mean_update, coverage = run.server.combine(weights, run.widths, noise=noise, only_moved=only_moved)
        return Aggregate(weights, excluded, mean_update, coverage)

    def _weights(self, present: Sequence[int]) -> dict[int, float]:
        """Return the weight of each participant of a round in the average."""
        run = self.run
        if run.private_average is not None:
            return dict.fromkeys(present, run.private_average.weight)
        uniform = run.config.mechanism.averaging != "weights"
        weights = run.config.aggregator.weights([1 if uniform else run.samples[index] for index in present])
        return dict(zip(present, weights, strict=True))

    def _step_scheduler(self) -> None:
        if self.run.local.scheduler is not None:
            with warnings.catch_warnings():
                # A process without participants in a round has not called optimizer.step.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.run.local.scheduler.step()

    def _call_round_end(self, aggregate: Aggregate, accuracy: Mapping[float, float], record: dict[str, Any]) -> None:
        run = self.run
        result = RoundResult(
            run.round,
            run.server.updates,
            aggregate.weights,
            aggregate.coverage,
            aggregate.mean_update,
            accuracy,
            record,
        )
        source = self.callbacks.decide("on_round_end", run, result)
        if source is not None:
            run.progress.reward_source = source

    # --- before and after ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Do the last checks, then prepare the run folder and record the start of the session."""
        run, config = self.run, self.run.config
        self.cohort_trainer.check()
        events = read_events(run.events.path)
        run.progress.stacking = decide_stacking(run, events)
        # Wait until all processes have passed the checks: from here on files are overwritten.
        run.fabric.barrier()
        if run.is_global_zero:
            discard_later_rounds(run.checkpoints, run.round)
            if config.configuration is not None:
                write_atomically(config.run_dir / "config.yaml", config.configuration.encode())
        self.callbacks.call("on_fit_start", run)
        run.record("resume" if events else "start", **describe_run(run))
        if run.is_global_zero:
            # Rounds after the checkpoint are repeated, so their rows are removed.
            kept = [event for event in latest_rounds(events) if event["round"] <= run.round]
            write_metrics(config.run_dir / "metrics.csv", kept)

    def _save_checkpoint(self) -> None:
        run = self.run
        with run.status.at("checkpoint", round=run.round):
            self.cohort_trainer.sync()
            state = self.state_dict()
            if run.is_global_zero:
                path = save_checkpoint(run.checkpoints, state, keep=run.config.keep_checkpoints)
                self.callbacks.call("on_checkpoint", run, path)
                self.cohort_trainer.prune(oldest_round(run.checkpoints))

    def _pay(self) -> bool:
        """Measure, allocate and write the rewards; return False if a signal has come before.

        Raises:
            RunInterrupted: A signal came during the payout. A resumed run repeats it from the last checkpoint.
        """
        run = self.run
        with run.status.at("payout"), run.stop.leaving():
            if run.is_stopping():
                return False
            try:
                self.begin_payout()
                self.callbacks.call("on_fit_end", run)
            except Exception as error:
                if run.stop.received is not None and is_lost_contact(error):
                    # Another process has received the signal too and has exited.
                    raise RunInterrupted from error
                raise
        return True

    def begin_payout(self) -> None:
        """Load what rewards are made from: the last round's model, or what a callback chose; no round may follow."""
        run, source = self.run, self.run.reward_source
        if source.parameters is not None:
            run.parameters.copy_(source.parameters)
        if source.models is not None:
            run.progress.models = source.models
        run.load_server_parameters()

    def _record_stop(self) -> None:
        received = self.run.stop.received
        self.run.record("stop", round=self.run.round, signal=received.name if received else "on another process")
