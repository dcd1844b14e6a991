"""Files with the state that participants keep between rounds, so that memory does not grow with their number."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import naming, sync

# Threads that wait for the disk at the same time.
SYNC_THREADS = 16


class ParticipantStates:
    """Stores each participant's state in one file for each round in which it changes: ``round-NNNN/NAME.pt``.

    The run's checkpoint holds the round of each participant's current file, so files of a failed round are ignored.
    :meth:`sync` must run before a checkpoint refers to a file; :meth:`prune` deletes it when no checkpoint does.

    Args:
        folder: The run's folder for these files; all processes must have access to it.
        names: The participants' names.
        deletes: Whether this process deletes files that are no longer needed; one process of a run does.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, deletes: bool) -> None:
        self._folder, self._names, self._deletes = folder, names, deletes
        # Round of each participant's current file.
        self._rounds: dict[int, int] = {}
        # Superseded files: (round in which it was superseded, participant, round of the file).
        self._superseded: deque[tuple[int, int, int]] = deque()
        # Files that this process has written since the last :meth:`sync`: (participant, round).
        self._unsynced: set[tuple[int, int]] = set()

    def load(self, index: int) -> dict[str, Any]:
        """Return a participant's current state, tensors on the CPU; empty before its first round.

        Raises:
            InputError: The file is missing or damaged.
        """
        if index not in self._rounds:
            return {}
        content = self._verified(index)
        kept: dict[str, Any] = _unpack(*torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
        return kept

    def save(self, index: int, number: int, kept: Mapping[str, Any]) -> None:
        """Write a participant's state after a round; :meth:`commit` makes it the current one.

        The write is not atomic, because no checkpoint refers to the file before :meth:`sync`.

        Args:
            index: The participant.
            number: The round.
            kept: The state: nested dictionaries of tensors and plain values.
        """
        content = io.BytesIO()
        # All float32 tensors go into one vector, because the overhead of each tensor exceeds the time for its bytes.
        torch.save(_pack(kept), content)
        digest = hashlib.sha256(content.getbuffer()).digest()
        path = self._path(index, number)
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(digest)
                file.write(content.getbuffer())
        self._unsynced.add((index, number))

    def sync(self) -> None:
        """Wait until all current files that this process has written are on disk."""
        # In parallel, because many files take a file system little longer than one.
        files = [self._path(index, number) for index, number in self._unsynced if self._rounds.get(index) == number]
        with ThreadPoolExecutor(SYNC_THREADS) as pool:
            list(pool.map(sync, files))
        for folder in dict.fromkeys(parent for path in files for parent in (path.parent, self._folder)):
            sync(folder)
        self._unsynced.clear()

    def commit(self, participants: Iterable[int], number: int) -> None:
        """Make the states that were saved in a round the current ones; called with the same values in all processes.

        Args:
            participants: Whose updates were averaged; the others keep their previous state.
            number: The round.
        """
        participants = set(participants)
        for index in [index for index, saved in self._unsynced if saved == number and index not in participants]:
            self._path(index, number).unlink(missing_ok=True)
            self._unsynced.discard((index, number))
        for index in sorted(participants):
            if self._deletes and index in self._rounds:
                self._superseded.append((number, index, self._rounds[index]))
            self._rounds[index] = number

    def prune(self, oldest: int) -> None:
        """Delete files that no checkpoint needs; without effect in processes that do not delete.

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
            # Fails as long as the folder holds other files.
            with suppress(OSError):
                folder.rmdir()

    def state_dict(self) -> dict[str, Any]:
        """Return the rounds of the current files, and the superseded files."""
        return {"rounds": dict(self._rounds), "superseded": list(self._superseded)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`."""
        self._rounds = dict(state["rounds"])
        self._superseded = deque(tuple(entry) for entry in state["superseded"])

    def _verified(self, index: int) -> bytes:
        """Return the content of a participant's current file, whose first 32 bytes hold the SHA-256 of the rest."""
        path = self._path(index, self._rounds[index])
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            raise InputError(
                f"{path} is {'damaged' if digest else 'missing'}; continue with --ckpt_path from an older checkpoint."
            )
        return content

    def check(self, place: int, processes: int) -> None:
        """Check that all current files exist, and that this process's share of them is intact.

        Args:
            place: Rank of this process.
            processes: Number of processes.

        Raises:
            InputError: A file is missing, as in another run folder, or damaged.
        """
        missing = [index for index, number in self._rounds.items() if not self._path(index, number).is_file()]
        if missing:
            raise InputError(
                f"ckpt_path goes with what {len(missing)} participants have kept, but "
                f"{self._path(missing[0], self._rounds[missing[0]])} is missing; continue in the run folder of the "
                "checkpoint, or copy its 'participants' folder."
            )
        for index in sorted(self._rounds)[place::processes]:
            self._verified(index)

    def _path(self, index: int, number: int) -> Path:
        return self._folder / f"round-{number:04d}" / f"{self._names[index]}.pt"


def _pack(state: Mapping[str, Any]) -> tuple[Any, Tensor]:
    """Replace each float32 tensor in nested dictionaries by its shape, and return all their values as one vector."""
    vectors: list[Tensor] = [torch.empty(0)]

    def pack(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype != torch.float32:
            return leaf
        vectors.append(leaf.detach().reshape(-1).cpu())
        return leaf.shape

    return _map_leaves(pack, dict(state)), torch.cat(vectors)


def _unpack(outline: Any, vector: Tensor) -> Any:
    """Undo :func:`_pack`."""
    offset = 0

    def unpack(leaf: Any) -> Any:
        nonlocal offset
        if not isinstance(leaf, torch.Size):
            return leaf
        start, offset = offset, offset + leaf.numel()
        return vector[start:offset].view(leaf)

    return _map_leaves(unpack, outline)


def _map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map_leaves(function, inner) for key, inner in value.items()}
    return function(value)
