"""What each participant reaches alone: the reference that contributions and gains are measured against."""

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
class Standalone:
    """Result of one participant's training alone, at full width, for as many rounds as the run has.

    Attributes:
        participant: Name.
        samples: Number of training samples.
        validation_accuracy: On the server's validation part, in [0, 1].
        test_accuracy: On the test part, in [0, 1]; only ever reported.
        seconds: Time it took.
    """

    participant: str
    samples: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Unfinished:
    """How far a participant has come alone when the run was asked to stop.

    Attributes:
        rounds: Of which it has done as many.
        parameters: What it has reached, of shape (P,).
        optimizer_state: What its optimizer remembers.
        seconds: Time it took.
    """

    rounds: int
    parameters: Tensor
    optimizer_state: OptimizerState
    seconds: float


class StandaloneRecords:
    """Keeps each result in a file of its own, so that a run that was ended does not train it again.

    Args:
        folder: The folder for them.
        names: The participants' names.
        key: Names what is wanted, as :func:`~aequa_lightning.engine.local.cache_key.training_key` does: a run
            that was prolonged or changed wants other results.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, key: str) -> None:
        self.folder, self.names, self.key = folder, names, key

    def save(self, result: Standalone) -> None:
        """Write one result, atomically."""
        write_json(self._path(result.participant), {**asdict(result), "key": self.key, "sha256": _digest(result)})
        self._unfinished(result.participant).unlink(missing_ok=True)

    def load(self, index: int) -> Standalone:
        """Read the result of a participant that has finished.

        Raises:
            ValueError: The file is damaged, or its result is that of another work.
        """
        content = json.loads(self._path(self.names[index]).read_text(encoding="utf-8"))
        digest, key = content.pop("sha256", None), content.pop("key", None)
        result = Standalone(**content)
        if digest != _digest(result):
            raise ValueError(f"{self._path(self.names[index])} is damaged.")
        if key != self.key:
            raise ValueError(f"{self._path(self.names[index])} is what was reached by other work or on other data.")
        return result

    def save_unfinished(self, index: int, unfinished: Unfinished) -> None:
        """Write how far a participant has come, atomically."""
        content = io.BytesIO()
        torch.save({"key": self.key, **vars(unfinished)}, content)
        write_atomically(self._unfinished(self.names[index]), content.getvalue())

    def load_unfinished(self, index: int) -> Unfinished | None:
        """Read how far a participant has come; None where there is nothing of the kind, or nothing sound."""
        try:
            content = load_checkpoint(self._unfinished(self.names[index]))
        except InputError:
            return None
        return Unfinished(**content) if content.pop("key", None) == self.key else None

    def missing(self) -> list[int]:
        """Return the indices of participants without a result; one that is not wanted or sound is trained again."""
        return [index for index in range(len(self.names)) if not self._is_sound(index)]

    def _is_sound(self, index: int) -> bool:
        try:
            self.load(index)
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return False
        return True

    @cached_property
    def all(self) -> list[Standalone]:
        """Everybody's result, in order of participants; to be asked for once everybody has one."""
        return [self.load(index) for index in range(len(self.names))]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _unfinished(self, name: str) -> Path:
        return self.folder / f"{name}.unfinished"


def _digest(result: Standalone) -> str:
    return hashlib.sha256(json.dumps(asdict(result)).encode()).hexdigest()


def standalone_records(
    config: RunConfig, local: LocalTrainer, data: CollaborativeData, schedule: Sequence[Options]
) -> StandaloneRecords:
    """Return where a run keeps what its participants reach alone: in its own folder, or where others find it, too.

    Args:
        config: What the run does.
        local: Trains them; its present parameters are where they start.
        data: Their samples, and those that they are scored on.
        schedule: The optimizer's options in each round.
    """
    key = training_key(local, data, work=config.work, schedule=schedule, compiled=config.compile)
    folder = config.run_dir / "standalone" if config.standalone_dir is None else config.standalone_dir / key
    return StandaloneRecords(folder, data.names, key=key)
