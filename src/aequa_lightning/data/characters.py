"""The text of Python's own help, character by character; it needs no download."""

from pydoc_data.topics import topics

import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData

# Token 0 is padding; 1 stands for all that is not printable ASCII, the others for the characters from blank to tilde.
OTHER, BLANK, TILDE = 1, 32, 126
TOKENS = TILDE - BLANK + 3
LENGTH, SAMPLES, TEST_SAMPLES = 32, 2000, 400


class CharactersData(CollaborativeData):
    """Pieces of 32 characters of the help texts that ship with Python; targets are the next characters.

    2,000 training pieces come from the texts of the first topics by alphabet, 400 test pieces from those behind them.
    The texts differ a little between versions of Python.
    """

    num_classes = TOKENS
    vocabulary_size = TOKENS
    target_kind = "positions"
    input_shape = (LENGTH,)

    def load(self) -> tuple[Split, Split]:
        """Return 2,000 training and 400 test pieces."""
        text = tokens("\n".join(topics[name] for name in sorted(topics)))
        # A piece shares its last character with the next one, which it is asked for and the next one begins with.
        pieces = text[: (SAMPLES + TEST_SAMPLES) * LENGTH + 1].unfold(0, LENGTH + 1, LENGTH)
        inputs, targets = pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()
        return Split(inputs[:SAMPLES], targets[:SAMPLES]), Split(inputs[SAMPLES:], targets[SAMPLES:])


def tokens(text: str) -> torch.Tensor:
    """Return the number of each character, int64 (characters,).

    Example:
        >>> tokens("a b!").tolist()
        [67, 2, 68, 3]
    """
    return torch.tensor([ord(mark) - BLANK + 2 if BLANK <= ord(mark) <= TILDE else OTHER for mark in text])
