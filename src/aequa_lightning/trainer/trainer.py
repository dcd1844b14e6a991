"""The trainer: what the ``trainer`` block of a configuration builds. Its methods are the verbs of the command."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Literal

from lightning.fabric import Fabric
from lightning.pytorch.loggers import Logger, WandbLogger

from aequa_lightning.adversaries import Adversary
from aequa_lightning.callbacks import Progress, Rewards
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.callbacks.downloads import Downloads
from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import Callbacks, CollaborationCallback
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import LocalCorrection, NoCorrection
from aequa_lightning.engine.local.optimizers import check_schedule
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.processes.hang_detection import detecting_hangs
from aequa_lightning.engine.processes.precision import warn_of_slow_precision
from aequa_lightning.engine.processes.status import remove_statuses
from aequa_lightning.engine.processes.topology import build_fabric, launch
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.aggregators import Aggregator, FedAvg
from aequa_lightning.engine.server.privacy import Privacy
from aequa_lightning.errors import RunInterrupted
from aequa_lightning.mechanisms import Aequa, Mechanism
from aequa_lightning.mechanisms.mechanism import tried
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.report import build_report
from aequa_lightning.rewards.files.signing import load_private_key
from aequa_lightning.run_folder.files import check_writable
from aequa_lightning.run_folder.lock import locked
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.runtime.process_settings import keeping_modes
from aequa_lightning.runtime.terminal import say_on_terminal
from aequa_lightning.trainer.checkpoints import check_same_privacy, check_state, state_to_pay_again, state_to_resume
from aequa_lightning.trainer.compatibility import (
    can_export,
    check_components,
    check_distillation,
    check_loggers,
    check_model,
    check_participants,
    check_untrained,
)
from aequa_lightning.trainer.configuration import configuration_of
from aequa_lightning.trainer.fit_result import FitResult
from aequa_lightning.trainer.given_objects import check_model_and_data, check_options
from aequa_lightning.trainer.inference import Evaluates
from aequa_lightning.trainer.limits import check_counts, check_timeout
from aequa_lightning.trainer.participant_names import check_names
from aequa_lightning.trainer.results import print_front, print_results, print_stop
from aequa_lightning.trainer.run_dir import TRIAL, clear, fill_placeholders

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class CollaborativeTrainer(Evaluates):
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
        participation: How participants are sampled, drop-outs and step budgets; null: uniform sampling, no drop-outs,
            no step budget.
        adversaries: Participants that cheat, for experiments; null: nobody.
        aggregator: How updates become one; null: FedAvg weighted by samples.
        correction: What is added to the participants' gradients against their drifting apart; null: nothing.
        privacy: Clipping and noise by which the shared model tells little of any participant; null: none.
        participant_state: ``keep``: a participant's optimizer goes on with what it remembers, such as momentum, from
            its last round; ``reset``: it begins anew in every round. Norm statistics are never kept: those of a width
            are taken anew.
        mechanism: How participants are paid; null: Aequa after training.
        assessment: Which contributions are measured round by round; null: cosine, behind the gates.
        run_dir: The run folder. ``{seed}`` stands for the seed, ``{wandb.id}`` for the id that ``wandb agent`` gives a
            run.
        fast_dev_run: Whether the run only tries everything, in seconds: one round, one batch of each participant, the
            grid alone measured for the payout, no loggers. It writes to ``RUN_DIR.fast_dev_run``, which is replaced.
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
        fast_dev_run: bool = False,
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
        check_options({key: value for key, value in locals().items() if key != "self"})
        run_dir = fill_placeholders(str(run_dir), seed=seed)
        if fast_dev_run:
            max_rounds = local_epochs = local_steps = 1
            mechanism, run_dir, logger = tried(mechanism or Aequa()), f"{run_dir.removesuffix(TRIAL)}{TRIAL}", None
        options = {key: value for key, value in locals().items() if key != "self"}
        check_counts(options)
        check_timeout(timeout_minutes)
        self.mechanism, self.assessment = mechanism or Aequa(), assessment or Assessment()
        # What the engine takes as it is given has the same name in RunConfig.
        given = {field.name: options[field.name] for field in fields(RunConfig) if field.name in options}
        converted = {
            "work": LocalWork(local_epochs, local_steps),
            "run_dir": user_path(run_dir, "trainer.run_dir"),
            "mechanism": self.mechanism,
            "participation": participation or Participation(),
            "adversaries": tuple(adversaries or ()),
            "aggregator": aggregator or FedAvg(),
            "correction": correction or NoCorrection(),
            "stacking": stacking or "off",  # YAML reads `off` as false
            "standalone_dir": None if standalone_dir is None else user_path(standalone_dir, "trainer.standalone_dir"),
        }
        self.config = RunConfig(**given | converted)
        check_components(self.mechanism, self.config, self.assessment)
        # What trains the participants: these processes, unless a federation replaces it.
        self.cohort: Callable[[Run, Callbacks], CohortTrainer] = CohortTrainer
        self.threads, self.report, self.export_programs = threads, report, export_programs
        self.fast_dev_run = fast_dev_run
        self.signing_key = None if signing_key is None else user_path(signing_key, "trainer.signing_key")
        recorder = [Downloads()] if record_downloads else []
        self.callbacks = [Progress(), *recorder, *(callbacks or [])]
        self._options = options
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
            run_dir=self.config.run_dir,
        )

    def fit(self, model: SlimmableModule, datamodule: CollaborativeData, ckpt_path: str | None = None) -> FitResult:
        """Run the rounds, measure contributions, allocate widths, write every participant's network and the report.

        Args:
            model: The shared model.
            datamodule: The participants' data.
            ckpt_path: A checkpoint to go on from; ``last``: the newest sound one of the run folder, if there is one.

        Returns:
            Allocation, figures and paths. Under ``torchrun`` and ``srun`` rank 0 writes the files: it alone may read
            them at once.

        Raises:
            InputError: Something given cannot be used; nothing has been trained or overwritten.
            RunFailed: A process failed, died or hung; the run can go on from its last checkpoint.
            RunInterrupted: A signal stopped the run after its state was saved.
        """
        with self._settings():
            check_model_and_data(model, datamodule)
            check_model(model)
            check_distillation(self.mechanism, model)
            check_loggers(self.fabric.loggers)
            for callback in self.callbacks:
                callback.check()
            check_names(datamodule.names, datamodule.participants)
            check_schedule(model, self.config.max_rounds)
            check_writable(self.config.run_dir)
            if self.config.standalone_dir is not None:
                check_writable(self.config.standalone_dir, "trainer.standalone_dir")
            with self._folder_lock(), keeping_modes(model):
                if self.fast_dev_run and self.fabric.is_global_zero:
                    clear(self.config.run_dir)
                state = None if self.fast_dev_run else state_to_resume(self.config.run_dir, ckpt_path)
                if state is None:
                    check_untrained(model)
                check_participants(self.config, datamodule.participants)
                if state is not None:
                    check_state(model, datamodule.participants, state)
                    check_same_privacy(self.config, state)
                if self.fabric.is_global_zero:
                    say_on_terminal(f"reading {type(datamodule).__name__} ...")
                datamodule.prepare_data()
                if self.fabric.is_global_zero:
                    remove_statuses(self.config.run_dir)
                with detecting_hangs(self.config.run_dir, self.fabric.global_rank, self.timeout, reports=True):
                    datamodule.setup("fit")
                rewards = self._rewards(self.mechanism, model)
                config = self.config
                if config.configuration is None:
                    config = replace(config, **configuration_of(self._options, model, datamodule))
                with self._reporting_stop():
                    if not self._launch(lambda fabric: self._train(fabric, model, datamodule, config, rewards, state)):
                        raise RunInterrupted
                self._report(config.unwritten)
        return FitResult(self.config.run_dir)

    def allocate(self, model: SlimmableModule, datamodule: CollaborativeData, mechanism: Mechanism) -> None:
        """Choose the widths of a finished run again and write its rewards again; nothing is trained or measured anew.

        Ends with the Pareto front of mean gain and spread, in the terminal and as ``frontier.png``.

        Args:
            model: The run's model.
            datamodule: The run's data.
            mechanism: How to pay this time.

        Raises:
            InputError: The run folder holds no finished run, its curve is damaged, or another command holds the folder.
        """
        check_model_and_data(model, datamodule)
        with self._settings(), self._folder_lock(), keeping_modes(model):
            state, measured = state_to_pay_again(self.config, model, datamodule.participants)
            check_components(mechanism, self.config, self.assessment)
            datamodule.prepare_data()
            rewards = self._rewards(mechanism, model)

            def pay(fabric: Fabric) -> None:
                config = replace(self.config, mechanism=mechanism)
                collaboration = Collaboration(fabric, model, datamodule, config=config, callbacks=[rewards])
                collaboration.load_state_dict(state)
                if collaboration.run.standalone is not None:
                    collaboration.run.standalone.accept_any_start()
                collaboration.begin_payout()
                rewards.pay(collaboration.run, measured, check=True)

            self._launch(pay)
            self._report()
            if self.fabric.is_global_zero:
                print_front(self.config.run_dir)

    def _folder_lock(self) -> AbstractContextManager[None]:
        """Lock the run folder; of processes that `torchrun` or `srun` has started, the first one does so for all."""
        return locked(self.config.run_dir) if self.fabric.is_global_zero else nullcontext()

    def _launch(self, work: Callable[[Fabric], Any]) -> Any:
        return launch(self.fabric, work, threads=self.threads, run_dir=self.config.run_dir, timeout=self.timeout)

    @contextmanager
    def _reporting_stop(self) -> Iterator[None]:
        """Print where a run stands that a signal stopped within the block."""
        try:
            yield
        except (RunInterrupted, KeyboardInterrupt):
            if self.fabric.is_global_zero:
                print_stop(self.config.run_dir, self.config.max_rounds, from_python=self.config.configuration is None)
            raise

    def _rewards(self, mechanism: Mechanism, model: SlimmableModule) -> Rewards:
        """Build the callback that measures contributions and pays; check the signing key, and whether programs work."""
        if self.signing_key is not None:
            load_private_key(self.signing_key)
        programs = self.export_programs and can_export(model, warns=self.fabric.is_global_zero)
        # The run's own contribution stays measured where another one is paid for afterwards.
        measures = tuple(dict.fromkeys([*self.assessment.measures, self.mechanism.contribution]))
        assessment = replace(self.assessment, measures=measures)
        return Rewards(mechanism, assessment, export_programs=programs, signing_key=self.signing_key)

    def _train(
        self,
        fabric: Fabric,
        model: SlimmableModule,
        data: CollaborativeData,
        config: RunConfig,
        rewards: Rewards,
        state: dict[str, Any] | None,
    ) -> bool:
        """Train and pay in one of the launched processes; return whether the run has finished."""
        callbacks = [rewards, *self.callbacks]
        collaboration = Collaboration(fabric, model, data, config=config, callbacks=callbacks, cohort=self.cohort)
        if state is not None:
            collaboration.load_state_dict(state)
        if fabric.is_global_zero:
            warn_of_slow_precision(fabric)
        finished = False
        try:
            finished = collaboration.fit()
        finally:
            if collaboration.run.has_trained:
                model.trained_in = self.config.run_dir
            for logger in fabric.loggers if fabric.is_global_zero else ():
                logger.finalize("success" if finished else "aborted")
                # A forked process runs no exit handlers, on which W&B relies to write what it still holds.
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish()
        return finished

    def _report(self, unwritten: str | None = None) -> None:
        """Build the page, and print the run's table and where the results are, or why there is no ``config.yaml``."""
        if self.fabric.is_global_zero:
            page = build_report([self.config.run_dir]) if self.report else None
            print_results(self.config.run_dir, page, unwritten=unwritten)
