"""Networks over token numbers: a bidirectional LSTM and a text CNN on word vectors."""

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError

PADDING = 0


def bilstm(
    num_classes: int, input_shape: tuple[int, ...], *, vocabulary_size: int, embedding: int = 300, hidden: int = 120
) -> nn.Module:
    """Return a bidirectional LSTM whose states are averaged over the words of a sentence.

    Args:
        num_classes: Outputs.
        input_shape: (length,), tokens of a sample; token 0 is padding.
        vocabulary_size: Number of different tokens.
        embedding: Size of a word vector.
        hidden: Units of each direction.

    Example:
        >>> bilstm(5, (56,), vocabulary_size=100).head
        Linear(in_features=240, out_features=5, bias=True)
    """
    _check_text("bilstm", input_shape)
    return BiLSTM(num_classes, vocabulary_size=vocabulary_size, embedding=embedding, hidden=hidden)


def text_cnn(
    num_classes: int,
    input_shape: tuple[int, ...],
    *,
    vocabulary_size: int,
    embedding: int = 300,
    channels: int = 100,
    windows: tuple[int, ...] = (3, 4, 5),
    dropout: float = 0.5,
) -> nn.Module:
    """Return a text CNN: convolutions over windows of words, the maximum over all places, and a linear layer.

    Source: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014, sections 2 and 3.1.

    Args:
        num_classes: Outputs.
        input_shape: (length,), tokens of a sample; token 0 is padding.
        vocabulary_size: Number of different tokens.
        embedding: Size of a word vector.
        channels: Channels of each convolution.
        windows: Words that each convolution looks at; none longer than a sample.
        dropout: Share of the channels dropped before the last layer, in [0, 1).

    Raises:
        InputError: When a window is longer than a sample.

    Example:
        >>> text_cnn(5, (56,), vocabulary_size=100).head
        Linear(in_features=300, out_features=5, bias=True)
    """
    length = _check_text("text_cnn", input_shape)
    if max(windows) > length:
        raise InputError(f"windows: {max(windows)} words are more than the {length} of a sample; lower it")
    return TextCNN(
        num_classes,
        vocabulary_size=vocabulary_size,
        embedding=embedding,
        channels=channels,
        windows=windows,
        dropout=dropout,
    )


class BiLSTM(nn.Module):
    """See :func:`bilstm`."""

    def __init__(self, num_classes: int, *, vocabulary_size: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, embedding, padding_idx=PADDING)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, classes) of token numbers (batch, length)."""
        states, _ = self.lstm(self.words(tokens))
        is_word = (tokens != PADDING).unsqueeze(-1)
        mean: Tensor = (states * is_word).sum(1) / is_word.sum(1).clamp_min(1)
        logits: Tensor = self.head(mean)
        return logits


class TextCNN(nn.Module):
    """See :func:`text_cnn`."""

    def __init__(
        self,
        num_classes: int,
        *,
        vocabulary_size: int,
        embedding: int,
        channels: int,
        windows: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, embedding, padding_idx=PADDING)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, channels, window) for window in windows)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels * len(windows), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, classes) of token numbers (batch, length)."""
        vectors = self.words(tokens).transpose(1, 2)
        found = [convolution(vectors).relu().amax(2) for convolution in self.convolutions]
        logits: Tensor = self.head(self.dropout(torch.cat(found, 1)))
        return logits


def _check_text(name: str, input_shape: tuple[int, ...]) -> int:
    """Return the length of a sample.

    Raises:
        InputError: When the samples are no rows of tokens.
    """
    if len(input_shape) != 1:
        raise InputError(f"input_shape: {input_shape} is no text; {name!r} needs (length,), a row of token numbers")
    return input_shape[0]
