"""A run as a Weights & Biases dashboard: curves by round, and at the end who brought and received what."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import wandb
import yaml

from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run
from aequa_lightning.report.quantities import run_figures
from aequa_lightning.report.sentences import outcome
from aequa_lightning.run_folder.csv_files import read_csv

AXES = ("train", "validation_accuracy", "participant", "time")
# The columns of contributions.csv that are no numbers.
WORDS = ("participant", "gates")


class WandbDashboard(CollaborationCallback):
    """Shows the run in Weights & Biases, as one run written by the global rank 0.

    Per round: the training loss, the accuracy of every width, every participant's loss, width, its width's accuracy and
    contribution measures, as curves and as a table; the time by phase.
    At the end: tables of contributions, allocation and rewards, the scatter of contribution and reward,
    and the files as artifacts; in the run's summary its figures, such as ``pearson`` and ``mcg``, and who gained.
    The resolved configuration is the run's configuration.

    Online, a resumed run continues the same W&B run. Offline runs cannot be resumed, so a resumed run starts a new
    one in the same group and names its predecessor in its configuration (``resumed_from``). Whether to be online is
    W&B's own ``WANDB_MODE``. All of W&B's files stay in the run folder, and its process ends with the run.

    Args:
        project: W&B project.
        entity: Team or user; null: W&B's default.
        name: Name of the run; null: the run folder's.
        group: Group of the run; null: the run folder's name.

    Raises:
        InputError: W&B refuses to start the run, for instance because nobody is logged in.
    """

    def __init__(
        self, project: str = "aequa", *, entity: str | None = None, name: str | None = None, group: str | None = None
    ) -> None:
        self.project, self.entity, self.name, self.group = project, entity, name, group
        # Id of the W&B run, or of the one that the checkpoint's session wrote.
        self._id: str | None = None

    def check(self) -> None:
        """Look for a login, unless W&B is not to be online."""
        if os.environ.get("WANDB_MODE", "online") == "online":
            check_login("trainer.callbacks: WandbDashboard")

    def setup(self, run: Run) -> None:
        """Forget what an earlier run of this process has left."""
        self._wandb: wandb.Run | None = None
        self._surroundings = ExitStack()
        self._finished = False
        # W&B gets a round once the engine has completed its record, which is after the round's own hook.
        self._unsent: dict[str, Any] | None = None

    def on_fit_start(self, run: Run) -> None:
        """Start the W&B run, in this process: one that is inherited by a fork is of no use."""
        if not run.is_global_zero:
            return
        folder = run.config.run_dir.absolute()
        self._temporary = folder / "wandb" / "temporary"
        self._surroundings.enter_context(_files_within(folder / "wandb"))
        self._surroundings.callback(_end_session)
        try:
            self._wandb = self._start(folder, run.round)
        except wandb.Error as error:
            raise InputError(
                f"WandbDashboard: {error}; log in with `wandb login`, or set WANDB_MODE=offline."
            ) from error
        self._id = self._wandb.id
        self._wandb.define_metric("round")
        for axis in AXES:
            self._wandb.define_metric(f"{axis}/*", step_metric="round")

    def on_round_start(self, run: Run) -> None:
        """Send the round before."""
        self._send()

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        """Keep the round's record until it is complete."""
        self._unsent = result.record

    def on_fit_end(self, run: Run) -> None:
        """Log tables, scatter and artifacts from the files of the run folder."""
        self._send()
        if self._wandb is not None:
            folder = run.config.run_dir
            with _temporary_files_in(self._temporary):
                self._wandb.log(_tables(folder))
            result = read_run(folder)
            self._wandb.summary.update({**run_figures(result), "outcome": outcome(result)})
            for artifact in _artifacts(folder, self._wandb.group):
                self._wandb.log_artifact(artifact, aliases=["latest", f"round-{run.round}"])
        self._finished = True

    def on_fit_exit(self, run: Run) -> None:
        """Finish the W&B run; forked processes run no exit handlers, so nobody else would."""
        self._send()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if self._finished else 1)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._wandb = None
        self._surroundings.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the id of the W&B run."""
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the id."""
        self._id = state.get("id")

    def _start(self, folder: Path, done: int) -> wandb.Run:
        config = folder / "config.yaml"
        description = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
        offline = wandb.setup().settings.mode != "online"
        if self._id is not None:
            description["resumed_from"] = {"id": self._id, "round": done}
        return wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name or folder.name,
            group=self.group or folder.name,
            job_type="fit",
            config=description,
            id=None if offline else self._id,
            resume=None if offline else "allow",
            reinit="create_new",
            # The terminal shows a progress bar; a copy of it is thousands of lines.
            settings=wandb.Settings(root_dir=str(folder), console="off", quiet=True),
        )

    def _send(self) -> None:
        if self._wandb is not None and self._unsent is not None:
            people = _participants(self._unsent)
            with _temporary_files_in(self._temporary):
                self._wandb.log(_history(self._unsent) | ({"participants": _table(people)} if people else {}))
        self._unsent = None


def _history(record: dict[str, Any]) -> dict[str, float]:
    """Turn the event of a round into W&B's flat keys.

    Example:
        >>> people = [{"name": "a", "samples": 9, "loss": 0.5, "cosine": 1.0}, {"name": "b", "samples": 9, "loss": 0.0}]
        >>> phases = {"training": 1.5, "other": 0.5}
        >>> _history(
        ...     {
        ...         "round": 1,
        ...         "train_loss": 0.5,
        ...         "validation_accuracy": {"0.5": 0.8},
        ...         "participants": people,
        ...         "rejected": ["b"],
        ...         "seconds": 2.0,
        ...         "seconds_by_phase": phases,
        ...     }
        ... )  # doctest: +NORMALIZE_WHITESPACE
        {'round': 1, 'train/loss': 0.5, 'validation_accuracy/0.5': 0.8, 'participant/a/loss': 0.5,
         'participant/a/cosine': 1.0, 'time/round': 2.0, 'time/training': 1.5, 'time/other': 0.5}
    """
    row = {"round": record["round"], "train/loss": record["train_loss"]}
    if "epsilon" in record:
        row["privacy/epsilon"] = record["epsilon"]
    row |= {f"validation_accuracy/{width}": value for width, value in record["validation_accuracy"].items()}
    for person in _participants(record):
        prefix = f"participant/{person['name']}"
        figures = {key: value for key, value in person.items() if key not in ("name", "samples")}
        row |= {f"{prefix}/{key}": value for key, value in figures.items() if value is not None}
    # A round that failed half-way has no times.
    phases = {"round": record["seconds"], **record["seconds_by_phase"]} if "seconds" in record else {}
    return row | {f"time/{phase}": seconds for phase, seconds in phases.items()}


def _participants(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the round's participants whose updates counted, each with the accuracy of its width where it was measured.

    Example:
        >>> person = {"name": "a", "width": 0.5}
        >>> _participants({"validation_accuracy": {"0.5": 0.8}, "participants": [person], "rejected": []})
        [{'name': 'a', 'width': 0.5, 'accuracy': 0.8}]
    """
    accuracies = record["validation_accuracy"]
    counted = [person for person in record["participants"] if person["name"] not in record["rejected"]]
    return [person | {"accuracy": accuracies.get(f"{person.get('width', 1.0):g}")} for person in counted]


def _tables(folder: Path) -> dict[str, Any]:
    """Read the tables of a paid run, and the picture of its fairness."""
    contributions = [
        {column: text if column in WORDS else None if text == "" else float(text) for column, text in row.items()}
        for row in read_csv(folder / "contributions.csv")
    ]
    people = json.loads((folder / "allocation.json").read_text(encoding="utf-8"))["participants"]
    rewards = json.loads((folder / "rewards" / "manifest.json").read_text(encoding="utf-8"))["rewards"]
    return {
        "contributions": _table(contributions),
        "allocation": _table(people),
        "rewards": _table(rewards),
        "fairness": wandb.plot.scatter(
            _table(people), "contribution", "accuracy", title="Contribution and reward (validation)"
        ),
    }


def _table(rows: list[dict[str, Any]]) -> wandb.Table:
    return wandb.Table(columns=[*rows[0]], data=[list(row.values()) for row in rows])


def _artifacts(folder: Path, group: str) -> list[wandb.Artifact]:
    """Describe the result as artifacts: what was decided, and the networks. Their files are read where they lie."""
    # W&B allows few characters in these names.
    prefix = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in group)
    allocation = wandb.Artifact(f"{prefix}-allocation", type="allocation")
    for name in ("allocation.json", "contributions.csv", "frontier.json", "config.yaml"):
        if (folder / name).is_file():
            allocation.add_file(str(folder / name), policy="immutable")
    rewards = wandb.Artifact(f"{prefix}-rewards", type="model")
    rewards.add_dir(str(folder / "rewards"), policy="immutable")
    return [allocation, rewards]


def check_login(name: str) -> None:
    """Prove that somebody is logged in to Weights & Biases on this machine; asks no server.

    Args:
        name: What needs the login.

    Raises:
        InputError: Nobody is.
    """
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:  # of a key that is none
        raise InputError(f"{name}: {error}") from error
    finally:
        _end_session()
    if not known:
        raise InputError(f"{name} needs a login: run `wandb login`, set WANDB_API_KEY, or log with WANDB_MODE=offline.")


def _end_session() -> None:
    """End W&B's process, which else would keep settings and places for the next run of this one."""
    if wandb.run is None:  # else the caller has a run of its own
        wandb.teardown()


@contextmanager
def _files_within(folder: Path) -> Iterator[None]:
    """Keep W&B's caches and its staging area in a folder; it takes these places from the environment alone."""
    former = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    os.environ |= {"WANDB_DATA_DIR": str(folder / "data"), "WANDB_CACHE_DIR": str(folder / "cache")}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ |= former


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let Python's temporary files be made in a folder: W&B leaves those of tables to exit handlers."""
    folder.mkdir(parents=True, exist_ok=True)
    former, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = former
