"""What participants keep between their rounds, on disk, so that memory does not depend on how many there are."""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import naming, sync

# Threads that wait for the disk together.
WAITING = 16


class ParticipantStates:
    """One file for each participant and each round in which it changed: ``round-NNNN/NAME.pt``.

    A round that fails leaves files that nobody reads, because which round's file counts is part of the run's
    checkpoint. A file is on disk for good, after :meth:`sync`, before a checkpoint needs it, and stays as long as one
    does.

    Args:
        folder: The run's folder for them; all processes must see it.
        names: The participants' names.
        deletes: Whether this process is the one that deletes what is not needed any more.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, deletes: bool) -> None:
        self._folder, self._names, self._deletes = folder, names, deletes
        # Round of the file that counts, by participant.
        self._rounds: dict[int, int] = {}
        # Files that were superseded: in which round, whose, and of which round.
        self._superseded: deque[tuple[int, int, int]] = deque()
        # Whose file of which round this process has written since the last call of :meth:`sync`.
        self._fresh: set[tuple[int, int]] = set()

    def load(self, index: int) -> dict[str, Any]:
        """Return what a participant has kept, tensors on the CPU; nothing before its first round.

        Raises:
            InputError: The file is missing or damaged.
        """
        if index not in self._rounds:
            return {}
        content = self._verified(index)
        outline, numbers = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        kept: dict[str, Any] = _with_numbers(outline, iter(numbers.split(_sizes(outline))))
        return kept

    def save(self, index: int, number: int, kept: Mapping[str, Any]) -> None:
        """Write what a participant keeps after a round; it counts once :meth:`note` is told.

        A crash may tear the file: no checkpoint needs it before :meth:`sync`.

        Args:
            index: The participant.
            number: The round.
            kept: Tensors and plain values.
        """
        content = io.BytesIO()
        # One vector, because each tensor of a file takes longer than its bytes.
        vectors: list[Tensor] = []
        outline = _without_numbers(dict(kept), vectors)
        torch.save((outline, torch.cat(vectors) if vectors else torch.empty(0)), content)
        digest = hashlib.sha256(content.getbuffer()).digest()
        path = self._path(index, number)
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(digest)
                file.write(content.getbuffer())
        self._fresh.add((index, number))

    def sync(self) -> None:
        """Wait until what this process has saved is on disk, but for what it has superseded since."""
        # Together, because a file system writes down many at once in little more time than one.
        files = [self._path(index, number) for index, number in self._fresh if self._rounds.get(index) == number]
        with ThreadPoolExecutor(WAITING) as pool:
            list(pool.map(sync, files))
        for folder in dict.fromkeys(parent for path in files for parent in (path.parent, self._folder)):
            sync(folder)
        self._fresh.clear()

    def note(self, participants: Iterable[int], number: int) -> None:
        """Let what participants saved in a round count from now on; to be called alike in all processes."""
        participants = set(participants)
        for index in [index for index, saved in self._fresh if saved == number and index not in participants]:
            # Whoever was kept out of the average goes on with what it remembered before.
            self._path(index, number).unlink(missing_ok=True)
            self._fresh.discard((index, number))
        for index in sorted(participants):
            if self._deletes and index in self._rounds:
                self._superseded.append((number, index, self._rounds[index]))
            self._rounds[index] = number

    def prune(self, oldest: int) -> None:
        """Delete the files that no checkpoint needs any more, in the process that does so.

        Args:
            oldest: Round of the oldest checkpoint.
        """
        folders: set[Path] = set()
        while self._superseded and self._superseded[0][0] <= oldest:
            _, index, number = self._superseded.popleft()
            path = self._path(index, number)
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            # It goes with the last of its files.
            with suppress(OSError):
                folder.rmdir()

    def state_dict(self) -> dict[str, Any]:
        """Return which files count."""
        return {"rounds": dict(self._rounds), "superseded": list(self._superseded)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rounds = dict(state["rounds"])
        self._superseded = deque(tuple(entry) for entry in state["superseded"])

    def _verified(self, index: int) -> bytes:
        path = self._path(index, self._rounds[index])
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            raise InputError(
                f"{path} is {'damaged' if digest else 'missing'}; go on with --ckpt_path from an older checkpoint."
            )
        return content

    def check(self, place: int, processes: int) -> None:
        """Prove that what counts is there, and sound; every process looks into its share of the files.

        Args:
            place: Number of this process.
            processes: How many there are.

        Raises:
            InputError: A file is missing, as in another run folder, or damaged.
        """
        missing = [index for index, number in self._rounds.items() if not self._path(index, number).is_file()]
        if missing:
            raise InputError(
                f"ckpt_path goes with what {len(missing)} participants have kept, but "
                f"{self._path(missing[0], self._rounds[missing[0]])} is missing; go on in the run folder of the "
                "checkpoint, or copy its 'participants' folder."
            )
        for index in sorted(self._rounds)[place::processes]:
            self._verified(index)

    def _path(self, index: int, number: int) -> Path:
        return self._folder / f"round-{number:04d}" / f"{self._names[index]}.pt"


def _without_numbers(value: Any, vectors: list[Tensor]) -> Any:
    """Return nested dictionaries with the shape of every float32 tensor in its place, and append what it holds."""
    if isinstance(value, dict):
        return {key: _without_numbers(inner, vectors) for key, inner in value.items()}
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        vectors.append(value.detach().reshape(-1).cpu())
        return value.shape
    return value


def _sizes(outline: Any) -> list[int]:
    """Return how many numbers each tensor held, in order."""
    if isinstance(outline, dict):
        return [size for inner in outline.values() for size in _sizes(inner)]
    return [outline.numel()] if isinstance(outline, torch.Size) else []


def _with_numbers(outline: Any, vectors: Iterator[Tensor]) -> Any:
    """Put the tensors back."""
    if isinstance(outline, dict):
        return {key: _with_numbers(inner, vectors) for key, inner in outline.items()}
    return next(vectors).view(outline) if isinstance(outline, torch.Size) else outline
