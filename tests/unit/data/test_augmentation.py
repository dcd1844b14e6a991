import torch
from scipy import stats

from aequa_lightning.data.augmentation import CropAndFlip


def candidates(image, padding, flip):
    """All crops of one image by slicing, the mirrored ones after the plain ones."""
    height, width = image.shape[-2:]
    padded = torch.nn.functional.pad(image, [padding] * 4)
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    return torch.stack(crops + [crop.flip(-1) for crop in crops] if flip else crops)


def test_augmentation_every_crop_of_every_image_with_equal_chance():
    image = torch.arange(1.0, 25.0).view(2, 3, 4)
    for flip in (False, True):
        torch.manual_seed(0)
        batch = CropAndFlip(padding=1, flip=flip)(image.expand(3600, -1, -1, -1))
        match = (batch[:, None] == candidates(image, 1, flip)[None]).flatten(2).all(dim=2)
        assert match.any(dim=1).all()
        assert stats.chisquare(match.sum(dim=0).numpy()).pvalue > 1e-3


def test_augmentation_images_of_a_batch_are_not_mixed():
    batch = torch.rand(16, 3, 8, 8)
    out = CropAndFlip(padding=2, flip=True)(batch)
    for image, augmented in zip(batch, out, strict=True):
        assert (candidates(image, 2, True) == augmented).flatten(1).all(dim=1).any()


def test_augmentation_global_seed_repeats_it():
    batch, crop = torch.rand(8, 1, 8, 8), CropAndFlip(padding=2, flip=True)
    torch.manual_seed(3)
    first = crop(batch)
    assert not torch.equal(crop(batch), first)
    torch.manual_seed(3)
    assert torch.equal(crop(batch), first)
