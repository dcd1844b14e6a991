"""Random crops and reflections of whole batches of images, drawn anew for every image."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


class CropAndFlip(v2.Transform):  # type: ignore[misc]  # torchvision is not typed
    """Shift each image of a batch by a few pixels and mirror every second one.

    torchvision's own random transforms draw once for a whole batch; this one draws for each image, without a loop.
    It uses torch's global generator on the CPU, so that a seed gives the same batches on every device. The border is
    filled with 0, the mean of normalised images.

    Args:
        padding: The largest shift in each direction, in pixels, at least 0.
        flip: Whether images are mirrored from left to right, each with chance 1/2.

    Example:
        >>> crop = CropAndFlip(padding=1, flip=False)
        >>> _ = torch.manual_seed(0)
        >>> crop(torch.ones(2, 1, 3, 3)).shape
        torch.Size([2, 1, 3, 3])
    """

    def __init__(self, *, padding: int, flip: bool) -> None:
        super().__init__()
        self.padding = padding
        self.flip = flip

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the upper left corner of each image's crop, and which images are mirrored."""
        images = len(flat_inputs[0])
        return {
            "corners": torch.randint(0, 2 * self.padding + 1, (2, images)),
            "mirrored": torch.rand(images) < (0.5 if self.flip else 0),
        }

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Return the crops of a batch (images, channels, height, width), of the same shape."""
        height, width = inpt.shape[-2:]
        windows = functional.pad(inpt, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        top, left = params["corners"].to(inpt.device, non_blocking=True)
        crops = windows[torch.arange(len(inpt), device=inpt.device), :, top, left]
        mirrored = params["mirrored"].to(inpt.device, non_blocking=True).view(-1, 1, 1, 1)
        return torch.where(mirrored, functional.horizontal_flip(crops), crops)
