"""Results of standalone training, one file for each participant, so that no run repeats finished work."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.checkpoint import load_checkpoint
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.cache_key import Options, training_key
from aequa_lightning.engine.local.trainer import LocalTrainer, OptimizerState
from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_atomically, write_json


@dataclass(frozen=True)
class StandaloneResult:
    """What one participant reaches when it trains alone, at full width, for as many rounds as the run has.

    Attributes:
        participant: Name.
        samples: Number of training samples.
        validation_accuracy: Score on the server's validation part, in [0, 1].
        test_accuracy: Score on the test part, in [0, 1]; only ever reported.
        class_accuracy: Share of the validation part whose class is right, whatever the score is; None where targets
            are no classes.
        guessing_accuracy: What guesses in the same frequencies would reach on the validation part, in [0, 1];
            None where targets are no classes.
        seconds: Time it took.
    """

    participant: str
    samples: int
    validation_accuracy: float
    test_accuracy: float
    class_accuracy: float | None
    guessing_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class StandaloneProgress:
    """State of a standalone training that was stopped between two rounds.

    Attributes:
        rounds: Number of rounds that are done.
        parameters: The model's parameters after them, of shape (P,).
        optimizer_state: State of the optimizer after them.
        seconds: Time they took.
    """

    rounds: int
    parameters: Tensor
    optimizer_state: OptimizerState
    seconds: float


class StandaloneStore:
    """Reads and writes the standalone results in a folder.

    Args:
        folder: The folder.
        names: The participants' names.
        key: The :func:`~aequa_lightning.engine.local.cache_key.training_key` of the run. Results under another key are
            ignored, because the run was prolonged or changed since.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, key: str) -> None:
        self.folder, self.names, self.key = folder, names, key
        self._compared = len(key)
        self._assumed: dict[int, StandaloneResult] = {}

    def accept_any_start(self) -> None:
        """Accept results whose training started from other weights than the model has now.

        For a finished run, which is only read: a run from Python has drawn its first weights in its own way.
        """
        self._compared = len(self.key) // 2
        others = sorted(self.folder.parent.glob(f"{self.key[: self._compared]}*"))
        if not self.folder.exists() and len(others) == 1:
            self.folder = others[0]

    def assume(self, index: int, result: StandaloneResult) -> None:
        """Let a result stand for a participant that has not trained yet, until one is saved."""
        self._assumed[index] = result
        self.__dict__.pop("all", None)

    def save(self, result: StandaloneResult) -> None:
        """Write one result atomically, and delete the participant's saved progress."""
        self._assumed.pop(self.names.index(result.participant), None)
        self.__dict__.pop("all", None)
        write_json(self._path(result.participant), {**asdict(result), "key": self.key, "sha256": _digest(result)})
        self._progress_path(result.participant).unlink(missing_ok=True)

    def load(self, index: int) -> StandaloneResult:
        """Read the result of one participant.

        Raises:
            ValueError: The file is damaged, or belongs to another key.
        """
        path = self._path(self.names[index])
        content = json.loads(path.read_text(encoding="utf-8"))
        digest, key = content.pop("sha256", None), content.pop("key", None)
        result = StandaloneResult(**content)
        if digest != _digest(result):
            raise ValueError(f"{path} is damaged.")
        if str(key)[: self._compared] != self.key[: self._compared]:
            raise ValueError(f"{path} is the result of other work or other data.")
        return result

    def save_progress(self, index: int, progress: StandaloneProgress) -> None:
        """Write a participant's progress, atomically."""
        content = io.BytesIO()
        torch.save({"key": self.key, **vars(progress)}, content)
        write_atomically(self._progress_path(self.names[index]), content.getvalue())

    def load_progress(self, index: int) -> StandaloneProgress | None:
        """Read a participant's progress; None if there is none for this key, or if it is damaged."""
        try:
            content = load_checkpoint(self._progress_path(self.names[index]))
        except InputError:
            return None
        return StandaloneProgress(**content) if content.pop("key", None) == self.key else None

    def missing(self) -> list[int]:
        """Return the indices of the participants without a sound result for this key."""
        return [index for index in range(len(self.names)) if not self._is_sound(index)]

    def _is_sound(self, index: int) -> bool:
        try:
            self.load(index)
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return False
        return True

    @cached_property
    def all(self) -> list[StandaloneResult]:
        """All results in order of participants. Read them only when none is missing that is not assumed."""
        return [self._assumed.get(index) or self.load(index) for index in range(len(self.names))]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _progress_path(self, name: str) -> Path:
        return self.folder / f"{name}.unfinished"


def _digest(result: StandaloneResult) -> str:
    return hashlib.sha256(json.dumps(asdict(result)).encode()).hexdigest()


def standalone_store(
    config: RunConfig, local: LocalTrainer, data: CollaborativeData, schedule: Sequence[Options]
) -> StandaloneStore:
    """Return the store of a run: in its own folder, or in ``standalone_dir``, which several runs share.

    Args:
        config: What the run is asked to do.
        local: The local trainer; standalone training starts from its present parameters.
        data: The participants' samples, and the validation and test parts.
        schedule: The optimizer's options in each round.
    """
    key = training_key(local, data, work=config.work, schedule=schedule, compiled=config.compile)
    folder = config.run_dir / "standalone" if config.standalone_dir is None else config.standalone_dir / key
    return StandaloneStore(folder, data.names, key=key)
