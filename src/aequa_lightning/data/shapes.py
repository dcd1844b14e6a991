"""Pictures of drawn shapes with the class of each pixel, which need no download."""

import numpy as np
import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData

SIDE = 16
# Standard deviation of the noise on pixels; background and shapes differ by about 1.
NOISE = 0.25


class ShapesData(CollaborativeData):
    """Grey pictures of 16 x 16 pixels with a disc, a square or a cross, or several of them, in noise.

    Targets are the classes of the pixels: 0 background, 1 disc, 2 square, 3 cross. There are 800 training and 400 test
    pictures, drawn with seed 0, whatever the ``partition_seed``.
    """

    num_classes = 4
    classes = ("background", "disc", "square", "cross")
    target_kind = "positions"
    input_shape = (1, SIDE, SIDE)

    def load(self) -> tuple[Split, Split]:
        """Return 800 training and 400 test pictures."""
        inputs, targets = draw(1200, np.random.default_rng(0))
        return Split(inputs[:800], targets[:800]), Split(inputs[800:], targets[800:])


def draw(count: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pictures with one to three shapes each; a later shape covers earlier ones.

    Args:
        count: How many pictures.
        generator: Source of places, sizes, brightness and noise.

    Returns:
        Pictures, float32 (count, 1, SIDE, SIDE), and the class of each pixel, int64 (count, SIDE, SIDE).

    Example:
        >>> pictures, classes = draw(2, np.random.default_rng(0))
        >>> pictures.shape, sorted(classes.unique().tolist())[0]
        (torch.Size([2, 1, 16, 16]), 0)
    """
    rows, columns = np.mgrid[:SIDE, :SIDE]
    pictures = generator.normal(0, NOISE, (count, 1, SIDE, SIDE))
    classes = np.zeros((count, SIDE, SIDE), dtype=np.int64)
    for picture, pixels in zip(pictures, classes, strict=True):
        for _ in range(generator.integers(1, 4)):
            kind, size = generator.integers(1, 4), generator.integers(2, 5)
            down, right = (abs(axis - generator.integers(3, SIDE - 3)) for axis in (rows, columns))
            inside = {
                1: down**2 + right**2 <= size**2,
                2: np.maximum(down, right) < size,
                3: (np.minimum(down, right) < 2) & (np.maximum(down, right) <= size),
            }[int(kind)]
            pixels[inside] = kind
            picture[0, inside] += generator.uniform(0.7, 1.3)
    return torch.tensor(pictures, dtype=torch.float32), torch.from_numpy(classes)
