"""The face of the project: what a configuration's ``trainer`` block builds."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from lightning.fabric import Fabric
from lightning.pytorch.loggers import Logger, WandbLogger
from rich.table import Table

from aequa_lightning.adversaries import Adversary, check_adversaries
from aequa_lightning.callbacks import Progress, Rewards
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.callbacks.downloads import Downloads
from aequa_lightning.callbacks.payout.measurement import Measurement
from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import CollaborationCallback
from aequa_lightning.engine.checkpoint import load_last
from aequa_lightning.engine.config import Plan
from aequa_lightning.engine.local.corrections import LocalCorrection, NoCorrection
from aequa_lightning.engine.local.optimizers import check_schedule
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.processes.precision import warn_of_slow_precision
from aequa_lightning.engine.processes.status import forget_places
from aequa_lightning.engine.processes.topology import build_fabric, launch
from aequa_lightning.engine.processes.watchdog import watching_itself
from aequa_lightning.engine.reward_source import check_paid
from aequa_lightning.engine.server.aggregators import Aggregator, FedAvg
from aequa_lightning.engine.server.privacy import Privacy
from aequa_lightning.errors import InputError, RunInterrupted
from aequa_lightning.mechanisms import Aequa, Mechanism
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.report import build_report, front_table, read_run, summary_table, write_front_picture
from aequa_lightning.rewards.files.checkpoint import export_program
from aequa_lightning.rewards.files.figures import certificate_faults
from aequa_lightning.rewards.files.signing import load_private_key
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.events import read_events
from aequa_lightning.run_folder.files import refuse_links
from aequa_lightning.run_folder.lock import locked
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.runtime.process_settings import keeping_modes, own_settings
from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.trainer.compatibility import (
    check_complete,
    check_loggers,
    check_model,
    check_names,
    check_parts,
    check_same_privacy,
    check_state,
    check_writable,
    state_to_resume,
)
from aequa_lightning.trainer.inference import load_network, measure, write_predictions

# Minutes of a month: whoever waits longer has been forgotten.
LONGEST_TIMEOUT = 31 * 24 * 60
# A schedule is tried out for all rounds before the first one.
MOST_ROUNDS = 100_000
# Of epochs, steps and all else that is counted: far beyond what is of use, and no number overflows.
MOST_TIMES = 1_000_000_000
# No machine has more cores, and far more threads cannot be started at all.
MOST_THREADS = 1024

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
P = ParamSpec("P")
R = TypeVar("R")


def _under_own_settings(
    verb: Callable[Concatenate["CollaborativeTrainer", P], R],
) -> Callable[Concatenate["CollaborativeTrainer", P], R]:
    """Let a method of the trainer run under settings of its own, whatever surrounds it."""

    @wraps(verb)
    def undisturbed(trainer: "CollaborativeTrainer", /, *args: P.args, **options: P.kwargs) -> R:
        with own_settings(threads=trainer.threads, seed=trainer.plan.seed % 2**32):
            return verb(trainer, *args, **options)

    return undisturbed


class CollaborativeTrainer:
    """Trains one slimmable model with many participants and pays each with the width it earned.

    Args:
        accelerator: ``cpu``, ``cuda`` ... or ``auto``, as of Lightning, but no Apple GPU: they lack double precision.
        devices: Processes per machine; ``auto`` is one per GPU; without, as many as torchrun or srun starts, or one.
        num_nodes: Number of machines.
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        compile: Whether the widths of the model's grid train compiled by ``torch.compile``; the first step of each
            takes long then. Results are repeatable, but differ in rounding from those of a run that is not compiled.
        replicas: Processes that share a participant by data parallelism; must divide the number of processes.
        max_rounds: Rounds of local training and averaging, >= 1.
        local_epochs: Passes of a participant over its data in a round, >= 1.
        local_steps: Batches of a participant in a round, instead of passes.
        participants_per_round: How many take part in a round, drawn at random; null: all.
        participation: Who is drawn, who fails to report, who runs out of time; null: all alike, nobody and nobody.
        adversaries: Participants that cheat, for experiments; null: nobody.
        aggregator: How updates become one; null: FedAvg weighted by samples.
        correction: What is added to the participants' gradients against their drifting apart; null: nothing.
        privacy: Clipping and noise by which the shared model tells little of any participant; null: none.
        participant_state: ``keep``: a participant's optimizer goes on with what it remembers, such as momentum, from
            its last round; ``reset``: it begins anew in every round. Norm statistics are never kept: those of a width
            are taken anew.
        mechanism: How participants are paid; null: Aequa after training.
        assessment: Which contributions are measured round by round; null: cosine, behind the gates.
        run_dir: The run folder.
        standalone: Whether every participant first trains alone for as long as the run lasts, which gains are measured
            against. Without it a run costs its rounds only and knows no gains; it takes a mechanism that needs none.
        standalone_dir: Folder in which runs share what participants reach alone: whoever trains the same network on the
            same data with the same seed finds the result there. null: the run's own folder.
        report: Whether the run ends with its page and figures.
        export_programs: Whether each reward is written as a ``torch.export`` program besides the checkpoint.
        signing_key: PEM file of the Ed25519 key that signs ``rewards/manifest.json``; null: it is not signed.
        logger: Lightning loggers besides the run folder's own ``metrics.csv`` and ``events.jsonl``.
        callbacks: Further callbacks of the engine.
        record_downloads: Whether what each participant receives in each round is kept on file, for ``aequa audit``.
        checkpoint_every: Rounds between checkpoints, >= 1.
        keep_checkpoints: How many of them stay, >= 1. Of two, one may be damaged.
        stacking: How many participants with small networks are trained by one step: a number, ``off``, or ``auto``,
            which measures before the first round whether stacks are faster. Stacks change a result by rounding, and
            ``auto`` may choose differently in another run; the run's record says what it chose.
        threads: CPU threads of a process, >= 1. Processes are the better use of cores, and a fixed number keeps the
            result independent of the number of processes.
        timeout_minutes: Longest wait for another process before the run stops with an error; a single process may do
            nothing for as long.
        seed: Decides everything random in the run. The command line takes ``seed_everything``.

    Raises:
        InputError: A value is out of range, or the devices are not there.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        num_nodes: int = 1,
        precision: Precision = "32-true",
        compile: bool = False,
        replicas: int = 1,
        max_rounds: int = 10,
        local_epochs: int = 1,
        local_steps: int | None = None,
        participants_per_round: int | None = None,
        participation: Participation | None = None,
        adversaries: list[Adversary] | None = None,
        aggregator: Aggregator | None = None,
        correction: LocalCorrection | None = None,
        privacy: Privacy | None = None,
        participant_state: Literal["reset", "keep"] = "reset",
        mechanism: Mechanism | None = None,
        assessment: Assessment | None = None,
        run_dir: str = "runs/latest",
        standalone: bool = True,
        standalone_dir: str | None = None,
        report: bool = True,
        export_programs: bool = True,
        signing_key: str | None = None,
        logger: Logger | list[Logger] | None = None,
        callbacks: list[CollaborationCallback] | None = None,
        record_downloads: bool = False,
        checkpoint_every: int = 1,
        keep_checkpoints: int = 2,
        stacking: Literal["auto", "off", False] | int = "off",
        threads: int = 1,
        timeout_minutes: float = 30.0,
        seed: int = 0,
    ) -> None:
        if stacking is False:  # how YAML reads `off`
            stacking = "off"
        limits = {
            "num_nodes": num_nodes,
            "replicas": replicas,
            "max_rounds": max_rounds,
            "local_epochs": local_epochs,
            "local_steps": local_steps,
            "participants_per_round": participants_per_round,
            "checkpoint_every": checkpoint_every,
            "keep_checkpoints": keep_checkpoints,
            "threads": threads,
            "stacking": stacking if isinstance(stacking, int) else None,
        }
        for key, value in limits.items():
            if value is not None and value < 1:
                raise InputError(f"trainer.{key}={value} must be at least 1.")
            most = MOST_ROUNDS if key == "max_rounds" else MOST_TIMES
            if value is not None and value > most:
                raise InputError(f"trainer.{key}={value} must be at most {most}.")
        if not 0 < timeout_minutes <= LONGEST_TIMEOUT:
            raise InputError(
                f"trainer.timeout_minutes={timeout_minutes} must be above 0, and at most {LONGEST_TIMEOUT} (a month)."
            )
        if threads > MOST_THREADS:
            raise InputError(f"trainer.threads={threads} must be at most {MOST_THREADS}; processes use cores better.")
        self.mechanism, self.assessment = mechanism or Aequa(), assessment or Assessment()
        self.plan = Plan(
            max_rounds=max_rounds,
            work=LocalWork(local_epochs, local_steps),
            participants_per_round=participants_per_round,
            aggregator=aggregator or FedAvg(),
            checkpoint_every=checkpoint_every,
            seed=seed,
            run_dir=user_path(run_dir, "trainer.run_dir"),
            mechanism=self.mechanism,
            participation=participation or Participation(),
            adversaries=tuple(adversaries or ()),
            correction=correction or NoCorrection(),
            privacy=privacy,
            participant_state=participant_state,
            keep_checkpoints=keep_checkpoints,
            compile=compile,
            stacking=stacking,
            standalone=standalone,
            standalone_dir=None if standalone_dir is None else user_path(standalone_dir, "trainer.standalone_dir"),
        )
        check_parts(self.mechanism, self.plan, self.assessment)
        check_adversaries(self.plan.adversaries)
        self.threads, self.report, self.export_programs = threads, report, export_programs
        self.signing_key = None if signing_key is None else user_path(signing_key, "trainer.signing_key")
        recorder = [Downloads()] if record_downloads else []
        self.callbacks = [self._rewards(self.mechanism), Progress(), *recorder, *(callbacks or [])]
        self.configuration: str | None = None
        self.timeout = timedelta(minutes=timeout_minutes)
        loggers = [logger] if isinstance(logger, Logger) else list(logger or [])
        self.fabric = build_fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            replicas=replicas,
            loggers=loggers,
            timeout=self.timeout,
            run_dir=self.plan.run_dir,
        )

    @_under_own_settings
    def fit(self, model: SlimmableClassifier, datamodule: CollaborativeData, ckpt_path: str | None = None) -> None:
        """Run the rounds, measure contributions, allocate widths, write every participant's network and the report.

        Args:
            model: The shared model.
            datamodule: The participants' data.
            ckpt_path: A checkpoint to go on from; ``last``: the newest sound one of the run folder, if there is one.

        Raises:
            InputError: Something given cannot be used; nothing has been trained or overwritten.
            RunFailed: A process failed, died or hung; the run can go on from its last checkpoint.
            RunInterrupted: A signal stopped the run after its state was saved.
        """
        check_model(model)
        check_loggers(self.fabric.loggers)
        for callback in self.callbacks:
            callback.check()
        check_names(datamodule.names, datamodule.participants)
        check_schedule(model, self.plan.max_rounds)
        check_writable(self.plan.run_dir)
        if self.plan.standalone_dir is not None:
            check_writable(self.plan.standalone_dir, "trainer.standalone_dir")
        with self._holding(), keeping_modes(model):
            state = state_to_resume(self.plan.run_dir, ckpt_path)
            self.plan.participation.check(datamodule.participants, self.plan.participants_per_round)
            check_adversaries(self.plan.adversaries, datamodule.participants)
            if state is not None:
                check_state(model, datamodule.participants, state)
                check_same_privacy(self.plan, state)
            if self.plan.privacy is not None:
                self.plan.privacy.check(datamodule.participants)
            datamodule.prepare_data()
            if self.fabric.is_global_zero:
                forget_places(self.plan.run_dir)
            with watching_itself(self.plan.run_dir, self.fabric.global_rank, self.timeout, speaks=True):
                datamodule.setup("fit")
            self._check_signing_key()
            self._settle_programs(model)
            finished = self._launch(lambda fabric: self._run(fabric, model, datamodule, state))
            if not finished:
                raise RunInterrupted
            self._report()

    @_under_own_settings
    def validate(
        self,
        model: SlimmableClassifier,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the validation part: of the shared model at each width, or of one reward.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        return self._evaluate("validation", model, datamodule, ckpt_path, public_key)

    @_under_own_settings
    def test(
        self,
        model: SlimmableClassifier,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the test part: of the shared model at each width, or of one reward.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        return self._evaluate("test", model, datamodule, ckpt_path, public_key)

    @_under_own_settings
    def predict(
        self,
        model: SlimmableClassifier,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> Path:
        """Write the predictions for the test part as a CSV file: sample, prediction, probability.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        datamodule.prepare_data()
        with keeping_modes(model):
            network = load_network(ckpt_path, model, datamodule, run_dir=self.plan.run_dir, public_key=public_key)
            refuse_links(self.plan.run_dir)
            path = self.plan.run_dir / "predictions" / f"{Path(str(ckpt_path)).stem}.csv"
            count = write_predictions(path, network, datamodule)
        PlainConsole().print(f"{count} predictions  {path}", soft_wrap=True)
        return path

    @_under_own_settings
    def allocate(self, model: SlimmableClassifier, datamodule: CollaborativeData, mechanism: Mechanism) -> None:
        """Choose the widths of a finished run again and write its rewards again; nothing is trained or measured anew.

        Ends with the Pareto front of mean gain and spread, in the terminal and as ``frontier.png``.

        Args:
            model: The run's model.
            datamodule: The run's data.
            mechanism: How to pay this time.

        Raises:
            InputError: The run folder holds no finished run, its curve is damaged, or another command holds the folder.
        """
        with self._holding(), keeping_modes(model):
            curve_file = self.plan.run_dir / "allocation.json"
            state = load_last(self.plan.run_dir / "checkpoints")
            if state is None or not curve_file.is_file():
                raise InputError(
                    f"run_dir={str(self.plan.run_dir)!r} holds no finished run; finish it with --ckpt_path last."
                )
            check_parts(mechanism, self.plan, self.assessment)
            with possibly_damaged(curve_file):
                content = read_json(curve_file)
                paid_after, measured = content["round"], Measurement.of_allocation(content)
                faults = certificate_faults(content, read_events(self.plan.run_dir / "events.jsonl"))
            if faults:
                raise InputError(f"{curve_file} {'; '.join(faults)}; write it again with `aequa fit --ckpt_path last`.")
            check_complete(state)
            check_state(model, datamodule.participants, state)
            check_paid(self.plan.run_dir, paid_after, state)
            if state["round"] < self.plan.max_rounds:
                raise InputError(
                    f"run_dir={str(self.plan.run_dir)!r} stands after round {state['round']} of "
                    f"trainer.max_rounds={self.plan.max_rounds}; finish it with --ckpt_path last."
                )
            datamodule.prepare_data()
            self._check_signing_key()
            self._settle_programs(model)
            rewards = self._rewards(mechanism)

            def pay(fabric: Fabric) -> None:
                plan = replace(self.plan, mechanism=mechanism)
                collaboration = Collaboration(fabric, model, datamodule, plan=plan, callbacks=[rewards])
                collaboration.load_state_dict(state)
                collaboration.begin_payout()
                rewards.pay(collaboration.run, measured, check=True)

            self._launch(pay)
            self._report()
            if self.fabric.is_global_zero:
                console, front = PlainConsole(), read_run(self.plan.run_dir).front
                if front is not None:
                    console.print(front_table(front))
                if (picture := write_front_picture(self.plan.run_dir)) is not None:
                    console.print(f"front    {picture}", soft_wrap=True)

    def _rewards(self, mechanism: Mechanism) -> Rewards:
        # Whatever the run measures stays measured, also where something else is paid for afterwards.
        measures = tuple(dict.fromkeys([*self.assessment.measures, self.mechanism.contribution]))
        assessment = replace(self.assessment, measures=measures)
        return Rewards(mechanism, assessment, export_programs=self.export_programs, signing_key=self.signing_key)

    def _settle_programs(self, model: SlimmableClassifier) -> None:
        """Pay without programs, and say so, where ``torch.export`` cannot follow the model."""
        if not self.export_programs:
            return
        try:
            export_program(model.network.extract(model.network.widths[-1]), model.network.example_input)
        except InputError as error:
            self.export_programs = False
            self.callbacks[0] = self._rewards(self.mechanism)
            if self.fabric.is_global_zero:
                reason = str(error).splitlines()[0]
                warnings.warn(
                    f"{reason}. Rewards are written as checkpoints alone, without programs (.pt2); "
                    "trainer.export_programs=false asks for that.",
                    stacklevel=2,
                )

    def _check_signing_key(self) -> None:
        if self.signing_key is not None:
            load_private_key(self.signing_key)

    def _holding(self) -> AbstractContextManager[None]:
        # Of processes that `torchrun` or `srun` has started, one holds the run folder for all.
        return locked(self.plan.run_dir) if self.fabric.is_global_zero else nullcontext()

    def _launch(self, work: Callable[[Fabric], Any]) -> Any:
        return launch(self.fabric, work, threads=self.threads, run_dir=self.plan.run_dir, timeout=self.timeout)

    def _run(
        self, fabric: Fabric, model: SlimmableClassifier, data: CollaborativeData, state: dict[str, Any] | None
    ) -> bool:
        plan = replace(self.plan, configuration=self.configuration)
        collaboration = Collaboration(fabric, model, data, plan=plan, callbacks=self.callbacks)
        if state is not None:
            collaboration.load_state_dict(state)
        if fabric.is_global_zero:
            warn_of_slow_precision(fabric)
        finished = False
        try:
            finished = collaboration.fit()
        finally:
            for logger in fabric.loggers if fabric.is_global_zero else ():
                logger.finalize("success" if finished else "aborted")
                # A forked process runs no exit handlers, on which W&B relies to write what it still holds.
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish()
        return finished

    def _evaluate(
        self,
        stage: str,
        model: SlimmableClassifier,
        data: CollaborativeData,
        ckpt_path: str | None,
        public_key: str | None,
    ) -> list[dict[str, float]]:
        data.prepare_data()
        with keeping_modes(model):
            network = load_network(ckpt_path, model, data, run_dir=self.plan.run_dir, public_key=public_key)
            results = measure(network, stage, data)
        table = Table("metric", Path(str(ckpt_path)).stem)
        for metric, value in results.items():
            table.add_row(metric, repr(value))
        PlainConsole().print(table)
        return [results]

    def _report(self) -> None:
        """Build the page and end the terminal's output with what a person wants to know."""
        if self.fabric.is_global_zero:
            console = PlainConsole()
            written = {"rewards": self.plan.run_dir / "rewards"}
            if self.report:
                written["report"] = build_report([self.plan.run_dir])
            console.print(summary_table(self.plan.run_dir))
            for name, path in written.items():
                console.print(f"{name:8} {path}", soft_wrap=True)
