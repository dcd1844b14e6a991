"""RemoteData: the server's view of data that stay with the participants."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from typing_extensions import override

from aequa_lightning.data import CollaborativeData
from aequa_lightning.data.loaded import Split
from aequa_lightning.data.preparation import IntArray
from aequa_lightning.errors import InputError
from aequa_lightning.federation.facts import Facts


class RemoteData(CollaborativeData):
    """The validation and the test part of the server's own data, and what participants say of theirs.

    Args:
        server: The server's data; nobody trains on its training part.
        names: Names of the participants.
        samples: Number of training samples of each, (N,).
        class_counts: How many of each class each one holds, (N, classes); null: not told.
        digests: SHA-256 of each one's data, hexadecimal; they tell one run's data from another's.
        node_keys: SHA-256 of the public key of each one's node, hexadecimal; empty texts: nodes have none.
    """

    def __init__(
        self,
        server: CollaborativeData,
        *,
        names: list[str],
        samples: list[int],
        class_counts: list[list[int]] | None = None,
        digests: list[str],
        node_keys: list[str],
    ) -> None:
        super().__init__(participants=len(names), batch_size=server.batch_size)
        self.server, self.names, self.samples = server, tuple(names), list(samples)
        self.class_counts_told, self.digests, self.node_keys = class_counts, list(digests), list(node_keys)
        self.num_classes, self.input_shape = server.num_classes, tuple(server.input_shape)
        self.vocabulary_size, self.classes = server.vocabulary_size, server.classes
        self.target_kind = server.target_kind

    def join(self, number: int, facts: Facts, node_key: bytes) -> None:
        """Take in what a participant says of its data.

        Args:
            number: The participant, from 0.
            facts: What it says.
            node_key: Public key of its node; empty where it has none.
        """
        self.samples[number], self.digests[number] = facts.samples, facts.digest
        self.node_keys[number] = hashlib.sha256(node_key).hexdigest() if node_key else ""
        if self.class_counts_told is not None and facts.class_counts:
            self.class_counts_told[number] = list(facts.class_counts)

    def told(self) -> dict[str, Any]:
        """Return the arguments of the present state, without the server's data, as plain values."""
        return {
            "names": list(self.names),
            "samples": self.samples,
            "class_counts": self.class_counts_told,
            "digests": self.digests,
            "node_keys": self.node_keys,
        }

    @override
    def load(self) -> tuple[Split, Split]:
        raise self._stays_at_home()

    @override
    def prepare_data(self) -> None:
        self.server.prepare_data()

    @override
    def setup(self, stage: str | None = None) -> None:
        self.server.setup(stage)
        self.mean, self.std = self.server.mean, self.server.std

    @override
    def participant(self, number: int) -> TensorDataset:
        raise self._stays_at_home()

    @override
    def pooled(self) -> TensorDataset:
        raise self._stays_at_home()

    @override
    def validation(self) -> TensorDataset:
        self.setup()
        return self.server.validation()

    @override
    def test(self) -> TensorDataset:
        self.setup()
        return self.server.test()

    @override
    def sample_counts(self) -> list[int]:
        return list(self.samples)

    @override
    def training_tensors(self) -> tuple[Tensor, ...]:
        return (torch.frombuffer(bytearray("".join(self.digests).encode() or b"\0"), dtype=torch.uint8),)

    @override
    def class_counts(self) -> IntArray:
        if self.class_counts_told is None:
            return np.zeros((self.participants, 0), dtype=np.int64)
        return np.array(self.class_counts_told, dtype=np.int64)

    @override
    def owner_facts(self, number: int) -> dict[str, str]:
        return {"node_key": self.node_keys[number]} if self.node_keys[number] else {}

    @override
    def describe(self) -> dict[str, Any]:
        return self.server.describe() | {
            "participants": self.participants,
            "partition": {"name": "Remote"},
            "sizes": self.samples,
            "node_keys": self.node_keys,
        }

    def _stays_at_home(self) -> InputError:
        return InputError(
            "data: the participants' samples stay at home, and something asks the server for them: a measure such as "
            "fedave, or Lightning's Trainer; choose measures that need updates and the validation part alone."
        )
