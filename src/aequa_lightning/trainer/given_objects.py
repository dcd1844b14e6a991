"""Checks of the objects that a trainer is given from Python: their base classes, and whether model and data agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch.nn import Module

from aequa_lightning.adversaries import Adversary
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.data import CollaborativeData
from aequa_lightning.data.loaded import check_statements
from aequa_lightning.engine.callback import CollaborationCallback
from aequa_lightning.engine.local.corrections import LocalCorrection
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.privacy import Privacy
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Mechanism
from aequa_lightning.modules.slimmable_module import SlimmableModule

# The base class of each option that is an object, and a class that fits.
OBJECTS: dict[str, tuple[type, str]] = {
    "participation": (Participation, "aequa_lightning.engine.participation.Participation()"),
    "aggregator": (Aggregator, "aequa_lightning.engine.server.aggregators.FedAvg()"),
    "correction": (LocalCorrection, "aequa_lightning.engine.local.corrections.FedProx(0.1)"),
    "privacy": (Privacy, "aequa_lightning.engine.server.privacy.Privacy(...)"),
    "mechanism": (Mechanism, "aequa_lightning.mechanisms.Aequa()"),
    "assessment": (Assessment, "aequa_lightning.callbacks.assessment.measures.Assessment()"),
}
LISTS: dict[str, tuple[type, str]] = {
    "adversaries": (Adversary, "aequa_lightning.adversaries.Replay([0])"),
    "callbacks": (CollaborationCallback, "aequa_lightning.engine.callback.CollaborationCallback"),
}
# Callbacks that Lightning and the engine have under the same name.
OWN_CALLBACKS = ("EarlyStopping", "ModelCheckpoint", "LearningRateMonitor")
PATHS = ("run_dir", "standalone_dir", "signing_key")


def check_options(options: Mapping[str, Any]) -> None:
    """Check that options of the trainer which are objects derive from the right class.

    Args:
        options: The trainer's, by name; None is passed over.

    Raises:
        InputError: One does not; the message names the base class.

    Example:
        >>> check_options({"callbacks": [], "logger": None, "run_dir": "runs/mine"})
        >>> check_options({"mechanism": "Aequa"})
        Traceback (most recent call last):
        ...
        aequa_lightning.errors.InputError: trainer.mechanism is a str; it must derive from Mechanism, such as \
aequa_lightning.mechanisms.Aequa()
    """
    for key, (base, example) in OBJECTS.items():
        given = options.get(key)
        if given is not None and not isinstance(given, base):
            raise InputError(
                f"trainer.{key} is {_named(given)}; it must derive from {base.__name__}, such as {example}"
            )
    for key, (base, example) in LISTS.items():
        given = options.get(key)
        if given is not None and not isinstance(given, list | tuple):
            raise InputError(f"trainer.{key} is {_named(given)}; give a list, [{key.removesuffix('s')}, ...]")
        for one in given or ():
            if isinstance(one, Callback) and type(one).__name__ in OWN_CALLBACKS:
                kind = type(one)
                raise InputError(refused_class(f"trainer.{key}", f"{kind.__module__}.{kind.__name__}", base.__name__))
            if not isinstance(one, base):
                hint = f"; {base.__name__} has hooks for rounds and participants" if isinstance(one, Callback) else ""
                raise InputError(
                    f"trainer.{key} holds {_named(one)}; it must derive from {base.__name__} ({example}){hint}"
                )
    for key in PATHS:
        given = options.get(key)
        if given is not None and not isinstance(given, str | Path):
            raise InputError(f"trainer.{key} is {_named(given)}; give a path")
    _check_logger(options.get("logger"))


def refused_class(key: str, name: str, base: str) -> str:
    """Return a sentence on a class that an option does not take.

    Args:
        key: The option.
        name: Import path of the class, or what was given in its place.
        base: Name of the class that it must derive from.

    Example:
        >>> refused_class("data", "mine.Data", "CollaborativeData")
        'data: mine.Data must derive from CollaborativeData.'
        >>> refused_class("callbacks", "lightning.pytorch.callbacks.EarlyStopping", "CollaborationCallback")
        "callbacks: Lightning's EarlyStopping does not know rounds; use aequa_lightning.callbacks.EarlyStopping."
    """
    package, own = name.partition(".")[0], name.rpartition(".")[2]
    if base == "CollaborationCallback" and own in OWN_CALLBACKS and package in ("lightning", "pytorch_lightning"):
        return f"{key}: Lightning's {own} does not know rounds; use aequa_lightning.callbacks.{own}."
    return f"{key}: {name} must derive from {base}."


def _check_logger(given: Any) -> None:
    for one in given if isinstance(given, list | tuple) else [given]:
        if not (one is None or one is False or isinstance(one, Logger)):
            raise InputError(
                f"trainer.logger is {one!r:.80}; give a Logger of lightning.pytorch.loggers, such as CSVLogger('logs'),"
                " or leave it out: metrics.csv and events.jsonl are written without one"
            )


def check_model_and_data(model: Any, data: Any) -> None:
    """Check that model and data derive from the right classes, and that the model is one for these data.

    Args:
        model: What is trained.
        data: What it is trained on.

    Raises:
        InputError: They do not, or the model has other classes or inputs than the data.
    """
    if not isinstance(model, SlimmableModule):
        if isinstance(model, Module) and not isinstance(model, LightningModule):
            remedy = "write SlimmableClassifier(data.num_classes, data.input_shape, backbone=network) for your network"
        else:
            remedy = (
                "it must derive from SlimmableModule, as SlimmableClassifier does, which takes a network of yours as "
                "backbone=..."
            )
        raise InputError(f"model is {_named(model)}; {remedy}")
    if not isinstance(data, CollaborativeData):
        own = " (its batches belong to no participant)" if isinstance(data, LightningDataModule) else ""
        raise InputError(
            f"data is {_named(data)}{own}; it must derive from aequa_lightning.data.CollaborativeData, whose load()"
            " returns the training and the test part"
        )
    check_statements(data)
    if model.target_kind not in (None, data.target_kind):
        raise InputError(
            f"model: {type(model).__name__} learns {model.target_kind}, but targets of {type(data).__name__} are "
            f"{data.target_kind}; {_module_for(data.target_kind)}"
        )
    for key in ("num_classes", "input_shape", "vocabulary_size"):
        has, wanted = (_plain(one) for one in (model.hparams[key], getattr(data, key)))
        # An adapted module does not say how many outputs its network has.
        if has != wanted and not (key == "num_classes" and has is None):
            raise InputError(
                f"model.{key} is {has}, but {type(data).__name__} has {wanted}; build the model with {key}=data.{key}"
            )


def _module_for(kind: str) -> str:
    """Return a remedy: the modules for targets of a kind."""
    modules = {
        "classes": "SlimmableClassifier",
        "labels": "SlimmableMultiLabelClassifier",
        "numbers": "SlimmableRegressor",
        "positions": "SlimmableSegmenter or SlimmableLanguageModel",
    }
    return f"use {modules[kind]} of aequa_lightning.modules"


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _named(given: Any) -> str:
    kind = given if isinstance(given, type) else type(given)
    what = f"the class {kind.__name__}" if isinstance(given, type) else f"{_article(kind.__name__)} {kind.__name__}"
    return what if kind.__module__ == "builtins" else f"{what} of {kind.__module__.partition('.')[0]}"


def _article(name: str) -> str:
    return "an" if name[:1].upper() in "AEIOU" else "a"
