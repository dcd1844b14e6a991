"""A small GPT: a causal transformer that gives logits of the next token at each position."""

import torch
from torch import Tensor, nn


def gpt(
    num_classes: int,
    input_shape: tuple[int, ...],
    *,
    vocabulary_size: int,
    embedding: int = 64,
    depth: int = 2,
    heads: int = 4,
) -> nn.Module:
    """Build a causal transformer with norms in front of each part, as in GPT-2.

    Args:
        num_classes: Tokens to choose the next one from.
        input_shape: Shape of one input, (length,).
        vocabulary_size: Number of different tokens.
        embedding: Numbers that stand for a token; a multiple of ``heads``.
        depth: Number of blocks.
        heads: Heads of an attention; widths keep whole heads.

    Example:
        >>> gpt(5, (8,), vocabulary_size=5)(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 8, 5])
    """
    return GPT(num_classes, input_shape[0], vocabulary_size, embedding=embedding, depth=depth, heads=heads)


class Block(nn.Module):
    """Causal attention and a perceptron, each added to what it reads.

    Args:
        embedding: Numbers that stand for a token.
        heads: Heads of the attention.
    """

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.norm, self.perceptron_norm = nn.LayerNorm(embedding), nn.LayerNorm(embedding)
        self.attention = nn.MultiheadAttention(embedding, heads, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.Linear(embedding, 4 * embedding), nn.GELU(), nn.Linear(4 * embedding, embedding)
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return new states of tokens, (batch, length, embedding)."""
        read = self.norm(states)
        states = states + self.attention(read, read, read, attn_mask=mask, need_weights=False)[0]
        moved: Tensor = states + self.perceptron(self.perceptron_norm(states))
        return moved


class GPT(nn.Module):
    """The network of :func:`gpt`.

    Args:
        num_classes: Tokens to choose the next one from.
        length: Tokens of an input.
        vocabulary_size: Number of different tokens.
        embedding: Numbers that stand for a token.
        depth: Number of blocks.
        heads: Heads of an attention.
    """

    mask: Tensor

    def __init__(
        self, num_classes: int, length: int, vocabulary_size: int, *, embedding: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary_size, embedding), nn.Embedding(length, embedding)
        self.blocks = nn.ModuleList(Block(embedding, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(embedding), nn.Linear(embedding, num_classes)
        # True where a token must not look: at those behind it.
        self.register_buffer("mask", torch.ones(length, length).triu(1).bool(), persistent=False)
        self.register_buffer("positions", torch.arange(length), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, length, tokens) of token numbers (batch, length)."""
        states = self.tokens(tokens) + self.places(self.positions)
        for block in self.blocks:
            states = block(states, self.mask)
        logits: Tensor = self.head(self.norm(states))
        return logits
