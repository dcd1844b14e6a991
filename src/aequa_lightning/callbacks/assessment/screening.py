"""The gates at work in a round: who is valued, as whom, and in which words the others are told why not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aequa_lightning.contributions.gates import examine, merge_clones, share_within

# Reason, for the table at the end, and what the round's record says.
REASONS = {
    "null": "sent next to nothing; worth nothing in this round",
    "replay": "sent nothing but what everybody knew; worth nothing in this round",
    "scaled": "sent an update far longer than its work explains; worth nothing in this round",
}
OVER_ROUNDS = {
    "nothing new": "has been sending nothing new but noise; worth nothing in this round",
    "harmful": "has been sending updates that do worse than their opposites would; worth nothing in this round",
}
NON_FINITE = "sent an update that is not finite; left out of the average and worth nothing in this round"


@dataclass(frozen=True)
class Suspects:
    """What a round's updates say, together with those before.

    Attributes:
        new: Share of the squared length of each accepted update that nobody could know before, (K,).
        riders: Participants of the round that have been sending nothing new.
        harmful: Participants of the round whose updates do worse than their opposites would.
    """

    new: Tensor
    riders: Sequence[int]
    harmful: Sequence[int]


@dataclass(frozen=True)
class GateResult:
    """What the gates leave for valuation.

    Attributes:
        participants: Indices of those that are valued, K of them, ascending.
        group: Player that each of them belongs to, 0..G - 1: those who sent the same update are one player.
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

    def merge(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixing matrix (G, K) and joint weights (G,) of the players; see ``merge_clones``.

        Args:
            weights: Aggregation weight of each valued participant, (K,).
        """
        return merge_clones(weights, self.group)

    def share(self, values: Tensor, count: int) -> Tensor:
        """Split each player's value among its participants; 0 for everybody else.

        Args:
            values: Value of each player, (G,).
            count: Number of all participants.

        Returns:
            float64 of shape (count,).

        Example:
            >>> GateResult([0, 2, 3], (0, 1, 1), {}, []).share(torch.tensor([1.0, 4.0]), 4).tolist()
            [1.0, 0.0, 2.0, 2.0]
        """
        shared = torch.zeros(count, dtype=torch.float64)
        if self.participants:
            shared[self.participants] = share_within(values.double().cpu(), self.group)
        return shared


def let_pass(accepted: Sequence[int]) -> GateResult:
    """Return what is valued without gates: everybody whose update entered the average, each by itself."""
    return GateResult(list(accepted), tuple(range(len(accepted))), {}, [])


def screen(
    gram: Tensor,
    suspects: Suspects,
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
        suspects: What is known of them from this round and those before.
        accepted: Indices of those whose update entered the average, K of them.
        refused: Indices of those whose update was not finite or exploded.
        work: Local work of each accepted participant, (K,), above 0.
        held: Number of parameters that each of them holds, (K,).
        names: Names of all participants.

    Example:
        >>> updates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> found = screen(
        ...     updates @ updates.T,
        ...     Suspects(torch.ones(3), [], []),
        ...     accepted=[0, 1, 2],
        ...     refused=[],
        ...     work=torch.ones(3),
        ...     held=torch.ones(3),
        ...     names=["a", "b", "c"],
        ... )
        >>> found.group, found.sentences
        ((0, 1, 1), ['b, c sent the same update; valued as one, the value split among them'])
    """
    gates = examine(gram, suspects.new, work=work, held=held)
    reasons = dict.fromkeys(refused, "non-finite")
    sentences = [f"{names[index]} {NON_FINITE}" for index in refused]
    for reason, told in REASONS.items():
        for index, caught in zip(accepted, getattr(gates, reason), strict=True):
            if caught and index not in reasons:
                reasons[index] = reason
                sentences.append(f"{names[index]} {told}")
    for reason, caught_ones in (("nothing new", suspects.riders), ("harmful", suspects.harmful)):
        for index in caught_ones:
            if index in accepted and index not in reasons:
                reasons[index] = reason
                sentences.append(f"{names[index]} {OVER_ROUNDS[reason]}")
    valued = [index for index in accepted if index not in reasons]
    identity = [gates.group[list(accepted).index(index)] for index in valued]
    players = list(dict.fromkeys(identity))
    for player in players:
        clones = [index for index, its in zip(valued, identity, strict=True) if its == player]
        if len(clones) > 1:
            sentences.append(
                f"{', '.join(names[index] for index in clones)} sent the same update; valued as one, the value split "
                "among them"
            )
            for index in clones:
                reasons[index] = f"clone of {', '.join(names[other] for other in clones if other != index)}"
    return GateResult(valued, tuple(players.index(its) for its in identity), reasons, sentences)
