"""Contribution measures as functions of updates and utilities, and the gates before them."""

from aequa_lightning.contributions.accumulate import MovingAverage, RunningSum
from aequa_lightning.contributions.alignment import class_cosines, gradient_alignment
from aequa_lightning.contributions.coalition_models import coalition_weights, model_evaluator, round_game
from aequa_lightning.contributions.cosine import CosineReputation, cosines
from aequa_lightning.contributions.games import (
    banzhaf_values,
    beta_values,
    leave_one_out,
    shapley_values,
)
from aequa_lightning.contributions.gates import Gates, examine, merge_clones, share_within
from aequa_lightning.contributions.gtg_shapley import guided_shapley
from aequa_lightning.contributions.losses import loss_likeness, series_divergence
from aequa_lightning.contributions.measure import Comparison, Measure, Need, Sampling
from aequa_lightning.contributions.measures import MEASURES
from aequa_lightning.contributions.reputation import CFFLReputation, Reputation, RFFLReputation
from aequa_lightning.contributions.sampling import sampled_banzhaf, sampled_shapley
from aequa_lightning.contributions.utilities import accuracy, balanced_accuracy, negative_log_loss
from aequa_lightning.contributions.values import Utility, Values
from aequa_lightning.contributions.without_rounds import data_shares

__all__ = [
    "MEASURES",
    "CFFLReputation",
    "Comparison",
    "CosineReputation",
    "Gates",
    "Measure",
    "MovingAverage",
    "Need",
    "RFFLReputation",
    "Reputation",
    "RunningSum",
    "Sampling",
    "Utility",
    "Values",
    "accuracy",
    "balanced_accuracy",
    "banzhaf_values",
    "beta_values",
    "class_cosines",
    "coalition_weights",
    "cosines",
    "data_shares",
    "examine",
    "gradient_alignment",
    "guided_shapley",
    "leave_one_out",
    "loss_likeness",
    "merge_clones",
    "model_evaluator",
    "negative_log_loss",
    "round_game",
    "sampled_banzhaf",
    "sampled_shapley",
    "series_divergence",
    "shapley_values",
    "share_within",
]
