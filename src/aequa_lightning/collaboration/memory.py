"""What participants keep between their rounds, on disk, so that memory does not depend on how many there are."""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aequa_lightning.errors import InputError
from aequa_lightning.files import write_atomically


class ParticipantMemory:
    """One file for each participant and each round in which it changed: ``NAME/round-NNNN.pt``.

    A round that fails leaves files that nobody reads, because which round's file counts is part of the run's
    checkpoint. A file stays as long as a checkpoint needs it.

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

    def load(self, index: int) -> dict[str, Any]:
        """Return what a participant has kept, tensors on the CPU; nothing before its first round.

        Raises:
            InputError: The file is missing or damaged.
        """
        if index not in self._rounds:
            return {}
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
        kept: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        return kept

    def save(self, index: int, number: int, kept: Mapping[str, Any]) -> None:
        """Write what a participant keeps after a round; it counts once :meth:`note` is told.

        Args:
            index: The participant.
            number: The round.
            kept: Tensors and plain values.
        """
        content = io.BytesIO()
        torch.save(dict(kept), content)
        digest = hashlib.sha256(content.getbuffer()).digest()
        write_atomically(self._path(index, number), digest + content.getvalue())

    def note(self, participants: Iterable[int], number: int) -> None:
        """Let what participants saved in a round count from now on; to be called alike in all processes."""
        for index in participants:
            if self._deletes and index in self._rounds:
                self._superseded.append((number, index, self._rounds[index]))
            self._rounds[index] = number

    def prune(self, oldest: int) -> None:
        """Delete the files that no checkpoint needs any more, in the process that does so.

        Args:
            oldest: Round of the oldest checkpoint.
        """
        while self._superseded and self._superseded[0][0] <= oldest:
            _, index, number = self._superseded.popleft()
            self._path(index, number).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return which files count."""
        return {"rounds": dict(self._rounds), "superseded": list(self._superseded)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rounds = dict(state["rounds"])
        self._superseded = deque(tuple(entry) for entry in state["superseded"])

    def check(self) -> None:
        """Prove that what counts is there.

        Raises:
            InputError: A file is missing, as in another run folder.
        """
        missing = [index for index, number in self._rounds.items() if not self._path(index, number).is_file()]
        if missing:
            raise InputError(
                f"ckpt_path goes with what {len(missing)} participants have kept, but "
                f"{self._path(missing[0], self._rounds[missing[0]])} is missing; go on in the run folder of the "
                "checkpoint, or copy its 'participants' folder."
            )

    def _path(self, index: int, number: int) -> Path:
        return self._folder / self._names[index] / f"round-{number:04d}.pt"
