"""The gates at work in a round: who is valued, as whom, and in which words the others are told why not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aequa_lightning.callbacks.assessment.gate_record import CLONE, SAME_DATA
from aequa_lightning.contributions.gates import components, examine, merge_clones

# Reason, for the table at the end, and what the round's record says.
REASONS = {
    "null": "sent next to nothing; worth nothing in this round",
    "replay": "sent nothing but what everybody knew; worth nothing in this round",
    "scaled": "sent an update far longer than its work explains; worth nothing in this round",
}
OVER_ROUNDS = {
    "false labels": "alone does worse than guessing, so that its labels must be false; worth nothing in this round",
    "nothing new": "has been sending nothing new but noise; worth nothing in this round",
    "harmful": "has been sending updates that do worse than their opposites would; worth nothing in this round",
}
NON_FINITE = "sent an update that is not finite; left out of the average and worth nothing in this round"


@dataclass(frozen=True)
class Detected:
    """What a round's updates say, together with those before.

    Attributes:
        new: Share of the squared length of each accepted update that nobody could know before, (K,).
        riders: Participants of the round that have been sending nothing new.
        harmful: Participants of the round whose updates do worse than their opposites would.
        false_labels: Participants whose network alone does worse than guessing.
        same: Pairs of participants of the round that train on the same data.
    """

    new: Tensor
    riders: Sequence[int]
    harmful: Sequence[int]
    false_labels: Sequence[int] = ()
    same: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class GateResult:
    """What the gates leave for valuation.

    Attributes:
        participants: Indices of those that are valued, K of them, ascending.
        group: Player that each of them belongs to, 0..G - 1: those who sent the same update, or have been training on
            the same data, are one player.
        reasons: Why the gates acted on a participant, by index, such as ``replay`` or ``clone of participant-03``.
        sentences: The same for the reader of a round's record.
    """

    participants: list[int]
    group: tuple[int, ...]
    reasons: dict[int, str]
    sentences: list[str]

    def representatives(self) -> set[int]:
        """Return one participant of each player, the one with the lowest index."""
        return {self.participants[self.group.index(player)] for player in set(self.group)}

    def identities(self) -> list[list[int]]:
        """Return the participants of each player that consists of several."""
        members = [
            [index for index, its in zip(self.participants, self.group, strict=True) if its == player]
            for player in sorted(set(self.group))
        ]
        return [several for several in members if len(several) > 1]

    def merge(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixing matrix (G, K) and joint weights (G,) of the players; see ``merge_clones``.

        Args:
            weights: Aggregation weight of each valued participant, (K,).
        """
        return merge_clones(weights, self.group)

    def spread(self, values: Tensor, count: int) -> Tensor:
        """Give each participant the value of its player; 0 for everybody else. It is shared when it is paid.

        Args:
            values: Value of each player, (G,).
            count: Number of all participants.

        Returns:
            float64 of shape (count,).

        Example:
            >>> GateResult([0, 2, 3], (0, 1, 1), {}, []).spread(torch.tensor([1.0, 4.0]), 4).tolist()
            [1.0, 0.0, 4.0, 4.0]
        """
        spread = torch.zeros(count, dtype=torch.float64)
        if self.participants:
            spread[self.participants] = values.double().cpu()[list(self.group)]
        return spread


def let_pass(accepted: Sequence[int]) -> GateResult:
    """Return what is valued without gates: everybody whose update entered the average, each by itself."""
    return GateResult(list(accepted), tuple(range(len(accepted))), {}, [])


def screen(
    gram: Tensor,
    detected: Detected,
    *,
    accepted: Sequence[int],
    refused: Sequence[int],
    work: Tensor,
    held: Tensor,
    names: Sequence[str],
) -> GateResult:
    """Let the gates decide on one round.

    Args:
        gram: Inner products of all pairs of accepted updates, (K, K).
        detected: What is known of them from this round and those before.
        accepted: Indices of those whose update entered the average, K of them.
        refused: Indices of those whose update was not finite or exploded.
        work: Local work of each accepted participant, (K,), above 0.
        held: Number of parameters that each of them holds, (K,).
        names: Names of all participants.

    Example:
        >>> updates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> found = screen(
        ...     updates @ updates.T,
        ...     Detected(torch.ones(3), [], []),
        ...     accepted=[0, 1, 2],
        ...     refused=[],
        ...     work=torch.ones(3),
        ...     held=torch.ones(3),
        ...     names=["a", "b", "c"],
        ... )
        >>> found.group, found.sentences
        ((0, 1, 1), ['b, c sent the same update; valued as one, paid as one'])
    """
    gates = examine(gram, detected.new, work=work, held=held)
    reasons = dict.fromkeys(refused, "non-finite")
    sentences = [f"{names[index]} {NON_FINITE}" for index in refused]
    for reason, told in REASONS.items():
        for index, caught in zip(accepted, getattr(gates, reason), strict=True):
            if caught and index not in reasons:
                reasons[index] = reason
                sentences.append(f"{names[index]} {told}")
    over_rounds = zip(OVER_ROUNDS.items(), (detected.false_labels, detected.riders, detected.harmful), strict=True)
    for (reason, told), caught_ones in over_rounds:
        for index in caught_ones:
            if index in accepted and index not in reasons:
                reasons[index] = reason
                sentences.append(f"{names[index]} {told}")
    valued = [index for index in accepted if index not in reasons]
    sent = [gates.group[list(accepted).index(index)] for index in valued]
    linked = torch.tensor(sent)[:, None] == torch.tensor(sent)
    for pair in detected.same:
        if set(pair) <= set(valued):
            first, second = map(valued.index, pair)
            linked[first, second] = linked[second, first] = True
    screened = GateResult(valued, components(linked), reasons, sentences)
    for identity in screened.identities():
        alike = len({sent[valued.index(index)] for index in identity}) == 1
        told = "sent the same update" if alike else "have been training on the same data"
        sentences.append(f"{', '.join(names[index] for index in identity)} {told}; valued as one, paid as one")
        for index in identity:
            others = ", ".join(names[other] for other in identity if other != index)
            reasons[index] = f"{CLONE if alike else SAME_DATA} {others}"
    return screened
