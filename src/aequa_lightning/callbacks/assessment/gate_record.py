"""Counts of what the gates catch: who is therefore not paid, and who is paid as one."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch

from aequa_lightning.contributions.gates import components, share_within

CLONE, SAME_DATA = "clone of", "same data as"
UNPAID = "not paid"


class GateRecord:
    """Counts what the gates catch each participant at. Participants that are one are paid one share together.

    Args:
        participants: Their number.

    Example:
        >>> gate_record = GateRecord(3)
        >>> for _ in range(3):
        ...     reasons = {0: "null", 1: "clone of c", 2: "clone of b"}
        ...     gate_record.note([0, 1, 2], reasons, left_out=[], identities=[[1, 2]])
        >>> gate_record.remarks()
        ['null in 3 rounds; not paid', 'clone of c in 3 rounds', 'clone of b in 3 rounds']
        >>> gate_record.paid([0.9, 0.8, 0.6])
        [0.0, 0.35, 0.35]
    """

    def __init__(self, participants: int) -> None:
        self._rounds, self._caught = [0] * participants, [0] * participants
        self._reasons: list[Counter[str]] = [Counter() for _ in range(participants)]
        # By pair: rounds in which it was found to be one, and rounds that both took part in since the first of them.
        self._pairs: dict[tuple[int, int], list[int]] = {}

    def note(
        self,
        present: Collection[int],
        reasons: Mapping[int, str],
        *,
        left_out: Collection[int],
        identities: Sequence[Sequence[int]],
    ) -> None:
        """Take in one round.

        Args:
            present: Who took part.
            reasons: What the gates caught participants at.
            left_out: Whose updates stayed out of the average.
            identities: Groups of participants that were found to be one.
        """
        for index in present:
            self._rounds[index] += 1
        for index, reason in reasons.items():
            self._reasons[index][reason] += 1
            self._caught[index] += not reason.startswith((CLONE, SAME_DATA))
        for index in left_out:
            self._reasons[index]["kept out of the average"] += 1
        found = {pair for identity in identities for pair in combinations(sorted(identity), 2)}
        for pair in sorted(found | self._pairs.keys()):
            if pair in found or set(pair) <= set(present):
                counts = self._pairs.setdefault(pair, [0, 0])
                counts[0] += pair in found
                counts[1] += 1

    @property
    def unpaid(self) -> frozenset[int]:
        """Those who were caught in most of the rounds that they took part in."""
        counts = enumerate(zip(self._rounds, self._caught, strict=True))
        return frozenset(index for index, (rounds, caught) in counts if 2 * caught > rounds)

    def paid(self, values: Sequence[float]) -> list[float]:
        """Return a measure as it is paid for.

        Whoever was caught in most of its rounds gets 0, or the least value of the others if that is below 0. Pairs that
        were found to be one in most of the rounds since they were first found are paid as one: the mean of their
        values, split evenly. So the rounds before they were found are shared, too.

        Args:
            values: The measure, (N,), where each has the value of its identity.
        """
        unpaid = self.unpaid
        linked = torch.zeros(len(values), len(values), dtype=torch.bool)
        for (first, second), (found, since) in self._pairs.items():
            linked[first, second] = 2 * found > since and not {first, second} & unpaid
        group = components(linked)
        least = min([0.0, *(value for index, value in enumerate(values) if index not in unpaid)])
        kept = [least if index in unpaid else value for index, value in enumerate(values)]
        shares = torch.tensor(kept, dtype=torch.float64)
        identity = torch.tensor(group)
        means = torch.zeros(max(group) + 1, dtype=torch.float64).index_add(0, identity, shares)
        paid: list[float] = share_within(means / torch.bincount(identity), group).tolist()
        return paid

    def remarks(self) -> list[str]:
        """Return what each participant was caught at, in words; empty where it was nothing."""
        unpaid = self.unpaid
        remarks = [
            [f"{reason} in {number} round{'s' * (number > 1)}" for reason, number in sorted(caught.items())]
            for caught in self._reasons
        ]
        return ["; ".join([*told, UNPAID] if index in unpaid else told) for index, told in enumerate(remarks)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "rounds": self._rounds,
            "caught": self._caught,
            "reasons": [dict(found) for found in self._reasons],
            "pairs": [[*pair, *counts] for pair, counts in self._pairs.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rounds, self._caught = list(state["rounds"]), list(state["caught"])
        self._reasons = [Counter(found) for found in state["reasons"]]
        self._pairs = {(first, second): [found, since] for first, second, found, since in state["pairs"]}
