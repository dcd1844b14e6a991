"""Who brought what: contribution measures as functions of updates and utilities."""

from aequa_lightning.contributions.cosine import CosineReputation, cosines_from_gram, update_cosines

__all__ = ["CosineReputation", "cosines_from_gram", "update_cosines"]
