"""The face of the project: what a configuration's ``trainer`` block builds."""

import csv
import io
import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger
from rich.console import Console
from rich.table import Table

from aequa_lightning.callbacks import Progress, Rewards
from aequa_lightning.collaboration.aggregation import FedAvg
from aequa_lightning.collaboration.checkpoint import load_checkpoint, load_last
from aequa_lightning.collaboration.engine import Collaboration, Plan
from aequa_lightning.collaboration.evaluation import Evaluator, count_correct, input_batches
from aequa_lightning.collaboration.events import read_events
from aequa_lightning.collaboration.hooks import CollaborationCallback
from aequa_lightning.collaboration.local import LocalWork
from aequa_lightning.collaboration.topology import Topology, build_fabric, launch
from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError, RunInterrupted
from aequa_lightning.files import write_atomically, write_json
from aequa_lightning.mechanisms import Aequa, Mechanism
from aequa_lightning.report import build_report, summary_table
from aequa_lightning.rewards.audit import audit_reward, audit_table, describe_audit, held_in_rounds
from aequa_lightning.rewards.checkpoint import is_reward, verify_reward
from aequa_lightning.training import RewardClassifier, SlimmableClassifier

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class CollaborativeTrainer:
    """Trains one slimmable model with many participants and pays each with the width it earned.

    Args:
        accelerator: ``cpu``, ``cuda`` ... or ``auto``, as of Lightning.
        devices: Processes per machine; ``auto`` is one per GPU, or one.
        num_nodes: Number of machines.
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        replicas: Processes that share a participant by data parallelism; must divide the number of processes.
        max_rounds: Rounds of local training and averaging, >= 1.
        local_epochs: Passes of a participant over its data in a round, >= 1.
        local_steps: Batches of a participant in a round, instead of passes.
        participants_per_round: How many take part in a round, drawn at random; null: all.
        aggregator: How updates become one; null: FedAvg weighted by samples.
        mechanism: How participants are paid; null: Aequa after training.
        run_dir: The run folder.
        logger: Lightning loggers besides the run folder's own ``metrics.csv`` and ``events.jsonl``.
        callbacks: Further callbacks of the engine.
        checkpoint_every: Rounds between checkpoints, >= 1.
        threads: CPU threads of a process, >= 1. Processes are the better use of cores, and a fixed number keeps the
            result independent of the number of processes.
        timeout_minutes: Longest wait for another process before the run stops with an error.
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
        replicas: int = 1,
        max_rounds: int = 10,
        local_epochs: int = 1,
        local_steps: int | None = None,
        participants_per_round: int | None = None,
        aggregator: FedAvg | None = None,
        mechanism: Mechanism | None = None,
        run_dir: str = "runs/latest",
        logger: Logger | list[Logger] | None = None,
        callbacks: list[CollaborationCallback] | None = None,
        checkpoint_every: int = 1,
        threads: int = 1,
        timeout_minutes: float = 30.0,
        seed: int = 0,
    ) -> None:
        limits = {
            "num_nodes": num_nodes,
            "replicas": replicas,
            "max_rounds": max_rounds,
            "local_epochs": local_epochs,
            "local_steps": local_steps,
            "participants_per_round": participants_per_round,
            "checkpoint_every": checkpoint_every,
            "threads": threads,
        }
        for key, value in limits.items():
            if value is not None and value < 1:
                raise InputError(f"trainer.{key}={value} must be at least 1.")
        self.mechanism = mechanism or Aequa()
        self.plan = Plan(
            max_rounds=max_rounds,
            work=LocalWork(local_epochs, local_steps),
            participants_per_round=participants_per_round,
            aggregator=aggregator or FedAvg(),
            checkpoint_every=checkpoint_every,
            seed=seed,
            run_dir=Path(run_dir),
            mechanism=repr(self.mechanism),
        )
        self.threads = threads
        self.callbacks = [Rewards(self.mechanism), Progress(), *(callbacks or [])]
        self.configuration: str | None = None
        loggers = [logger] if isinstance(logger, Logger) else list(logger or [])
        self.fabric = build_fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            replicas=replicas,
            loggers=loggers,
            timeout=timedelta(minutes=timeout_minutes),
        )

    def fit(self, model: SlimmableClassifier, datamodule: CollaborativeData, ckpt_path: str | None = None) -> None:
        """Run the rounds, measure contributions, allocate widths, write every participant's network and the report.

        Args:
            model: The shared model.
            datamodule: The participants' data.
            ckpt_path: A checkpoint to go on from; ``last``: the newest sound one of the run folder, if there is one.

        Raises:
            InputError: Something given cannot be used; nothing has been trained or overwritten.
            RunInterrupted: A signal stopped the run after its state was saved.
        """
        state = self._state_to_resume(ckpt_path)
        datamodule.prepare_data()
        datamodule.setup("fit")
        self._check(model, datamodule, state)
        finished = launch(self.fabric, lambda fabric: self._run(fabric, model, datamodule, state), threads=self.threads)
        if not finished:
            raise RunInterrupted
        self._report()

    def validate(
        self, model: SlimmableClassifier, datamodule: CollaborativeData, ckpt_path: str | None = None
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the validation part: of the shared model at each width, or of one reward."""
        return self._evaluate("validation", model, datamodule, ckpt_path)

    def test(
        self, model: SlimmableClassifier, datamodule: CollaborativeData, ckpt_path: str | None = None
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the test part: of the shared model at each width, or of one reward."""
        return self._evaluate("test", model, datamodule, ckpt_path)

    @torch.no_grad()
    def predict(self, model: SlimmableClassifier, datamodule: CollaborativeData, ckpt_path: str | None = None) -> Path:
        """Write the predictions for the test part as a CSV file: sample, prediction, probability."""
        datamodule.prepare_data()
        network, name = self._network(model, datamodule, ckpt_path)
        network.eval()
        rows: list[tuple[int, int, float]] = []
        for batch in input_batches(datamodule.test(), torch.device("cpu")):
            probabilities, classes = network(batch).softmax(-1).max(-1)
            rows += zip(range(len(rows), len(rows) + len(batch)), classes.tolist(), probabilities.tolist(), strict=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["sample", "prediction", "probability"])
        writer.writerows(rows)
        path = self.plan.run_dir / "predictions" / f"{name}.csv"
        write_atomically(path, text.getvalue().encode())
        Console().print(f"{len(rows)} predictions  {path}", highlight=False, soft_wrap=True)
        return path

    def allocate(self, model: SlimmableClassifier, datamodule: CollaborativeData, mechanism: Mechanism) -> None:
        """Choose the widths of a finished run again and write its rewards again; nothing is trained or measured anew.

        Args:
            model: The run's model.
            datamodule: The run's data.
            mechanism: How to pay this time.

        Raises:
            InputError: The run folder holds no finished run.
        """
        curve_file = self.plan.run_dir / "allocation.json"
        state = load_last(self.plan.run_dir / "checkpoints")
        if state is None or not curve_file.is_file():
            raise InputError(
                f"run_dir={str(self.plan.run_dir)!r} holds no finished run; finish it with --ckpt_path last."
            )
        curve = json.loads(curve_file.read_text())["accuracy_by_width"]
        datamodule.prepare_data()
        self._check(model, datamodule, state)
        rewards = Rewards(mechanism)

        def pay(fabric: Fabric) -> None:
            run = Collaboration(fabric, model, datamodule, plan=self.plan, callbacks=[rewards])
            run.load_state_dict(state)
            rewards.pay(run, {float(width): accuracy for width, accuracy in curve.items()})

        launch(self.fabric, pay, threads=self.threads)
        self._report()

    def audit(self, model: SlimmableClassifier) -> bool:
        """Prove of each reward file of a finished run what it holds and what it does not; writes ``audit.json``.

        Args:
            model: The run's model.

        Returns:
            Whether every file holds exactly what was earned.

        Raises:
            InputError: The run folder holds no finished run.
        """
        state, manifest = load_last(self.plan.run_dir / "checkpoints"), self.plan.run_dir / "rewards" / "manifest.json"
        if state is None or not manifest.is_file():
            raise InputError(f"run_dir={str(self.plan.run_dir)!r} holds no rewards; finish the run first.")
        _check_parameters(model, state)
        model.load_state_dict(state["state_dict"], strict=False)
        findings = [
            audit_reward(manifest.parent, row, network=model.network)
            for row in json.loads(manifest.read_text())["rewards"]
        ]
        held = held_in_rounds(read_events(self.plan.run_dir / "events.jsonl"))
        write_json(self.plan.run_dir / "audit.json", describe_audit(findings, model.network, held))
        Console().print(audit_table(findings, held))
        return not any(finding.faults for finding in findings)

    # --- fit -------------------------------------------------------------------------------------------------------

    def _run(
        self, fabric: Fabric, model: SlimmableClassifier, data: CollaborativeData, state: dict[str, Any] | None
    ) -> bool:
        run = Collaboration(fabric, model, data, plan=self.plan, callbacks=self.callbacks)
        if state is not None:
            run.load_state_dict(state)
        if run.is_global_zero and self.configuration is not None:
            write_atomically(self.plan.run_dir / "config.yaml", self.configuration.encode())
        return run.fit()

    def _report(self) -> None:
        """Build the page and end the terminal's output with what a person wants to know."""
        if self.fabric.is_global_zero:
            page = build_report([self.plan.run_dir])
            console = Console()
            console.print(summary_table(self.plan.run_dir))
            console.print(f"rewards  {self.plan.run_dir / 'rewards'}\nreport   {page}", highlight=False, soft_wrap=True)

    def _state_to_resume(self, ckpt_path: str | None) -> dict[str, Any] | None:
        run_dir = self.plan.run_dir
        if ckpt_path == "last":
            return load_last(run_dir / "checkpoints")
        if (run_dir / "events.jsonl").exists():
            raise InputError(
                f"trainer.run_dir={str(run_dir)!r} already holds a run; go on with --ckpt_path last, "
                "or choose another folder."
            )
        return None if ckpt_path is None else load_checkpoint(Path(ckpt_path))

    def _check(self, model: SlimmableClassifier, data: CollaborativeData, state: dict[str, Any] | None) -> None:
        """Find what would stop the run later, before anything is trained."""
        count = self.plan.participants_per_round
        if count is not None and count > data.participants:
            raise InputError(f"trainer.participants_per_round={count} exceeds data.participants={data.participants}.")
        _check_writable(self.plan.run_dir)
        if state is None:
            return
        if state.get("kind") != "collaboration":
            raise InputError("ckpt_path holds no state of a run; give one of its checkpoints, or 'last'.")
        if state["participants"] != data.participants:
            raise InputError(
                f"ckpt_path was saved with {state['participants']} participants, but data.participants="
                f"{data.participants}; use the run's own config.yaml."
            )
        _check_parameters(model, state)

    # --- evaluation ------------------------------------------------------------------------------------------------

    def _evaluate(
        self, stage: str, model: SlimmableClassifier, data: CollaborativeData, ckpt_path: str | None
    ) -> list[dict[str, float]]:
        torch.set_num_threads(self.threads)
        data.prepare_data()
        part = data.test() if stage == "test" else data.validation()
        network, name = self._network(model, data, ckpt_path)
        if isinstance(network, SlimmableClassifier):
            evaluator = Evaluator(network.network, Topology(self._one_process()), calibration=data.validation())
            (accuracy,) = evaluator.accuracies(network.network.widths, [part])
            results = {f"{stage}/accuracy/{width:g}": value for width, value in accuracy.items()}
        else:
            results = {f"{stage}/accuracy": count_correct(network, part, device=torch.device("cpu")) / len(part)}
        table = Table("metric", name)
        for metric, value in results.items():
            table.add_row(metric, repr(value))
        Console().print(table)
        return [results]

    def _network(
        self, model: SlimmableClassifier, data: CollaborativeData, ckpt_path: str | None
    ) -> tuple[SlimmableClassifier | RewardClassifier, str]:
        """Load the shared model, or a reward with the network that its own file describes."""
        if ckpt_path is None:
            raise InputError("ckpt_path is missing; give rewards/NAME.ckpt, a checkpoint of the run, or 'last'.")
        path = Path(ckpt_path)
        state = load_last(self.plan.run_dir / "checkpoints") if ckpt_path == "last" else load_checkpoint(path)
        if state is None:
            raise InputError(f"ckpt_path='last': there is no checkpoint in {self.plan.run_dir / 'checkpoints'}.")
        if is_reward(state):
            verify_reward(path)
            reward = RewardClassifier(**state["hyper_parameters"])
            reward.load_state_dict(state["state_dict"])
            if tuple(state["hyper_parameters"]["input_shape"]) != tuple(data.input_shape):
                raise InputError(
                    f"ckpt_path={ckpt_path!r} takes inputs of shape {state['hyper_parameters']['input_shape']}, "
                    f"but data gives {list(data.input_shape)}; use the data it was trained on."
                )
            return reward, path.stem
        _check_parameters(model, state)
        model.load_state_dict(state["state_dict"], strict=False)
        return model, path.stem

    def _one_process(self) -> Fabric:
        return Fabric(accelerator="cpu", devices=1)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"trainer.run_dir={str(folder)!r} cannot be written ({os.strerror(error.errno or 0)}); choose another."
        ) from error


def _check_parameters(model: SlimmableClassifier, state: dict[str, Any]) -> None:
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    saved = {name: tuple(value.shape) for name, value in state.get("state_dict", {}).items()}
    wrong = [name for name, shape in expected.items() if saved.get(name) != shape]
    if wrong:
        name = wrong[0]
        raise InputError(
            f"ckpt_path does not fit the model: {name} is {saved.get(name, 'missing')} in the file, but "
            f"{expected[name]} in the model ({len(wrong)} parameters differ); use the run's own config.yaml."
        )
