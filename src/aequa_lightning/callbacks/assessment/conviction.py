"""Who was caught how often, and who is therefore not paid."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

CLONE = "clone of"
UNPAID = "not paid"


class Conviction:
    """Counts what the gates catch each participant at. Clones share what they are worth, and are not unpaid for it.

    Args:
        participants: Their number.

    Example:
        >>> conviction = Conviction(3)
        >>> for _ in range(3):
        ...     conviction.note([0, 1, 2], {1: "null", 2: "clone of a"}, left_out=[])
        >>> conviction.remarks()
        ['', 'null in 3 rounds; not paid', 'clone of a in 3 rounds']
        >>> conviction.sharing()
        [1, 1, 2]
    """

    def __init__(self, participants: int) -> None:
        self._rounds, self._caught = [0] * participants, [0] * participants
        self._reasons: list[Counter[str]] = [Counter() for _ in range(participants)]

    def note(self, present: Collection[int], reasons: Mapping[int, str], *, left_out: Collection[int]) -> None:
        """Take in one round.

        Args:
            present: Who took part.
            reasons: What the gates caught participants at.
            left_out: Whose updates stayed out of the average.
        """
        for index in present:
            self._rounds[index] += 1
        for index, reason in reasons.items():
            self._reasons[index][reason] += 1
            self._caught[index] += not reason.startswith(CLONE)
        for index in left_out:
            self._reasons[index]["kept out of the average"] += 1

    @property
    def unpaid(self) -> frozenset[int]:
        """Those who were caught in most of the rounds that they took part in."""
        counts = enumerate(zip(self._rounds, self._caught, strict=True))
        return frozenset(index for index, (rounds, caught) in counts if 2 * caught > rounds)

    def paid(self, values: Sequence[float], *, needs_rounds: bool) -> list[float]:
        """Return a measure as it is paid for: 0 for whoever was caught in most of its rounds.

        Args:
            values: The measure, (N,).
            needs_rounds: Whether it was taken in the rounds, in each of which clones have shared it. Any other measure
                is shared by those who were clones in most of their rounds.
        """
        shared = [1] * len(values) if needs_rounds else self.sharing()
        rows = enumerate(zip(values, shared, strict=True))
        return [0.0 if index in self.unpaid else value / count for index, (value, count) in rows]

    def sharing(self) -> list[int]:
        """Return how many each participant was in most of its rounds: 1, or more if it had clones."""
        most = [
            {reason for reason, count in reasons.items() if reason.startswith(CLONE) and 2 * count > rounds}
            for reasons, rounds in zip(self._reasons, self._rounds, strict=True)
        ]
        return [2 + next(iter(reasons)).count(", ") if reasons else 1 for reasons in most]

    def remarks(self) -> list[str]:
        """Return what each participant was caught at, in words; empty where it was nothing."""
        remarks = [
            [f"{reason} in {number} round{'s' * (number > 1)}" for reason, number in sorted(caught.items())]
            for caught in self._reasons
        ]
        return ["; ".join([*told, UNPAID] if index in self.unpaid else told) for index, told in enumerate(remarks)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"rounds": self._rounds, "caught": self._caught, "reasons": [dict(found) for found in self._reasons]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rounds, self._caught = list(state["rounds"]), list(state["caught"])
        self._reasons = [Counter(found) for found in state["reasons"]]
