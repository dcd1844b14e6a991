"""Checks that the configured components are compatible, made before training starts."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from aequa_lightning.adversaries import check_adversaries
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.contributions.measures import check_measures
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.local.model_checks import check_types
from aequa_lightning.engine.server.privacy import check_accountant
from aequa_lightning.engine.server.robust import RobustAggregator
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import AequaTraining, Mechanism, PaidInRounds
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.rewards.files.checkpoint import export_program
from aequa_lightning.slimmable.norm import check_modes


def check_components(mechanism: Mechanism, config: RunConfig, assessment: Assessment) -> None:
    """Check that the configured components are compatible.

    Args:
        mechanism: How participants are paid.
        config: What the run is asked to do.
        assessment: Which contributions are measured.

    Raises:
        InputError: Two of them are not.
    """
    check_adversaries(config.adversaries)
    check_measures([mechanism.contribution], "trainer.mechanism.contribution")
    paid = f"with trainer.mechanism={type(mechanism).__name__} participants"
    if isinstance(config.aggregator, RobustAggregator) and mechanism.holds_widths:
        raise InputError(
            f"trainer.aggregator={type(config.aggregator).__name__} compares whole updates, but {paid} hold parts; "
            "choose another aggregator."
        )
    if isinstance(config.correction, Scaffold) and (mechanism.holds_widths or isinstance(mechanism, PaidInRounds)):
        raise InputError(
            f"trainer.correction=Scaffold compares gradients of one model, but {paid} hold different ones; choose "
            "FedProx."
        )
    if isinstance(config.correction, Scaffold) and config.adversaries:
        raise InputError(
            "trainer.adversaries change the updates that they send, but with trainer.correction=Scaffold something "
            "else is sent beside them, which would stay honest; choose FedProx."
        )
    if isinstance(config.correction, Scaffold) and assessment.exclude_flagged:
        raise InputError(
            "trainer.assessment.exclude_flagged=true keeps updates out of the average, but with "
            "trainer.correction=Scaffold what was sent beside them has been used; choose FedProx."
        )
    if config.privacy is not None:
        _check_private(mechanism, config, paid, exclude_flagged=bool(assessment.exclude_flagged))
    if not config.standalone:
        _check_without_standalone(mechanism, assessment)


def _check_without_standalone(mechanism: Mechanism, assessment: Assessment) -> None:
    """Check that nothing depends on standalone accuracies."""
    alone = "trainer.standalone=false trains nobody alone, but"
    if mechanism.contribution == "standalone":
        raise InputError(
            f"{alone} trainer.mechanism={type(mechanism).__name__} goes by the measure 'standalone'; choose one with "
            "another contribution, such as SharedModel with contribution=data_share, or Aequa with "
            "contribution=cosine, objective=proportional and individually_rational=false."
        )
    if "standalone" in assessment.measures:
        raise InputError(f"{alone} trainer.assessment.measures names 'standalone'; leave it out.")
    if mechanism.individually_rational:
        raise InputError(
            f"{alone} trainer.mechanism.individually_rational=true promises no less than one reaches alone; set it to "
            "false."
        )


def _check_private(mechanism: Mechanism, config: RunConfig, paid: str, *, exclude_flagged: bool) -> None:
    """Check that everything the server publishes is computed from noisy sums."""
    aggregator = type(config.aggregator).__name__
    if isinstance(config.aggregator, RobustAggregator):
        raise InputError(
            f"trainer.privacy adds noise to a sum, and trainer.aggregator={aggregator} takes none; choose FedAvg."
        )
    if config.aggregator.weighting != "uniform":
        raise InputError(
            f"trainer.privacy bounds what one participant can change, but {aggregator} weights by samples; "
            "set trainer.aggregator.weighting=uniform."
        )
    if mechanism.holds_widths or isinstance(mechanism, PaidInRounds):
        raise InputError(f"trainer.privacy protects one model that all hold, but {paid} hold others; choose Aequa.")
    if isinstance(config.correction, Scaffold):
        raise InputError(
            "trainer.correction=Scaffold hands out a mean to which trainer.privacy adds no noise; choose FedProx."
        )
    if exclude_flagged:
        raise InputError(
            "trainer.assessment.exclude_flagged=true lets one update decide whether another one is averaged, which "
            "trainer.privacy cannot bound; leave it false."
        )
    if config.participants_per_round is not None and config.participation.sampling != "poisson":
        raise InputError(
            f"trainer.privacy is accounted for where participants are chosen independently, but "
            f"trainer.participation.sampling={config.participation.sampling}; choose poisson, or leave "
            "trainer.participants_per_round out."
        )
    check_accountant()


def check_participants(config: RunConfig, participants: int) -> None:
    """Check the options that depend on the number of participants.

    Args:
        config: What the run is asked to do.
        participants: Their number.

    Raises:
        InputError: One does not fit it.
    """
    config.participation.check(participants, config.participants_per_round)
    check_adversaries(config.adversaries, participants)
    if config.privacy is not None:
        config.privacy.check(participants)


def check_loggers(loggers: Sequence[Any]) -> None:
    """Check that Weights & Biases is logged in, where a logger sends to it.

    Args:
        loggers: Lightning loggers.

    Raises:
        InputError: There is no login.

    Example:
        >>> check_loggers([])
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        mode = logger._wandb_init.get("mode") or os.environ.get("WANDB_MODE", "online")
        if logger._offline or mode != "online":
            continue
        from aequa_lightning.callbacks.wandb import check_login  # imports wandb, which takes a second

        check_login("trainer.logger=WandbLogger")


def check_untrained(model: SlimmableModule) -> None:
    """Check that a new run does not start from the weights of an earlier one, such as in a notebook cell run twice.

    The standalone accuracies would start from them, too, and would be no baseline.

    Raises:
        InputError: A fit has trained this object.
    """
    if model.trained_in is not None:
        raise InputError(
            f"model: a fit into {str(model.trained_in)!r} has trained this object, so that standalone training would "
            "start from shared weights; build the model anew, or continue that run with ckpt_path='last'."
        )


def check_model(model: SlimmableModule) -> None:
    """Check that participants can be paid with sub-networks of a model; warn of modules in evaluation mode.

    Raises:
        InputError: They cannot.
    """
    if model.norm == "private":
        raise InputError(
            "model.norm='private' has networks of the widths of the grid only, but fair rewards lie between them; "
            "choose 'shared', 'static' or 'group'. Lightning's own Trainer takes it."
        )
    check_types(model)
    check_modes(model.network.full)
    evaluating = [name or "the network" for name, part in model.network.full.named_modules() if not part.training]
    if evaluating:
        shown = ", ".join(evaluating[:3]) + (f" and {len(evaluating) - 3} more" if len(evaluating) > 3 else "")
        warnings.warn(
            f"model.backbone: {shown} in evaluation mode stay so while participants train, as with Lightning's "
            "Trainer; call .train() on the network to train as usual.",
            stacklevel=2,
        )


def check_distillation(mechanism: Mechanism, model: SlimmableModule) -> None:
    """Check that widths can learn from each other's outputs, where a mechanism asks for it.

    Raises:
        InputError: Outputs of the model are no logits of classes.
    """
    if isinstance(mechanism, AequaTraining) and mechanism.distillation and not model.can_distil:
        raise InputError(
            f"trainer.mechanism.distillation={mechanism.distillation}: outputs of {type(model).__name__} are no "
            "logits of classes in dimension 1; set it to 0."
        )


def can_export(model: SlimmableModule, *, warns: bool) -> bool:
    """Return whether rewards can be written as programs: ``torch.export`` cannot follow every network.

    Args:
        model: The model; its smallest width is tried.
        warns: Whether to warn if not.
    """
    try:
        export_program(model.network.extract(model.network.widths[-1]), model.network.example_input)
    except InputError as error:
        if warns:
            warnings.warn(
                f"{str(error).splitlines()[0]}. Rewards are written as checkpoints alone, without programs (.pt2); "
                "trainer.export_programs=false asks for that.",
                stacklevel=2,
            )
        return False
    return True
