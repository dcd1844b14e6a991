"""The configuration of a run that is made from Python: class paths and arguments of what it was given."""

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from aequa_lightning.data import CollaborativeData
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.runtime.arguments import RecordsArguments

HEADER = """\
# Written by a run from Python, for `aequa allocate`, `audit`, `report`, `validate`, `test` and `predict`.
# `aequa fit` of it draws first weights of its own, by seed_everything.
"""
# The model takes these from the data.
LINKED = ("num_classes", "input_shape", "vocabulary_size")
# The command line takes it from seed_everything.
SEED = "seed"
_TEXT = "tag:yaml.org,2002:str"


class NotExpressibleError(Exception):
    """Something that a run was given cannot be named in a file; the message says what, and what to do."""


def configuration_of(options: Mapping[str, Any], model: SlimmableModule, data: CollaborativeData) -> dict[str, Any]:
    """Return ``configuration`` or ``unwritten`` of a `RunConfig` for a run from Python.

    Args:
        options: Arguments of the trainer, by name.
        model: The model.
        data: The data.
    """
    try:
        return {"configuration": _describe(options, model, data)}
    except NotExpressibleError as error:
        return {"unwritten": str(error)}


def _describe(options: Mapping[str, Any], model: SlimmableModule, data: CollaborativeData) -> str:
    """Return the content of ``config.yaml``.

    Raises:
        NotExpressibleError: A class or function is of the running script, or an object does not tell its arguments.
    """
    if "configure_optimizers" in vars(model):
        raise NotExpressibleError("model.configure_optimizers was replaced; override it in a subclass")
    if not model.source.is_importable:
        raise NotExpressibleError(
            f"model.backbone={model.source.name} is no function of a module; put the function that builds it into a .py"
            " file of its own"
        )
    # LightningCLI adds entries of its own, which begin with an underscore.
    hparams = {key: value for key, value in model.hparams.items() if key not in LINKED and key[0] != "_"}
    # Loggers change no result, and a logger does not tell its arguments.
    trainer = {key: value for key, value in options.items() if key not in (SEED, "logger")}
    content = {
        "seed_everything": options[SEED],
        "trainer": {key: _expressed(value, f"trainer.{key}") for key, value in trainer.items()},
        "model": {"class_path": _class_path(type(model), "model"), "init_args": _expressed(hparams, "model")},
        "data": _expressed(data, "data"),
        "ckpt_path": None,
    }
    return HEADER + yaml.dump(content, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def _expressed(value: Any, key: str) -> Any:
    """Return a value as a configuration writes it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _expressed(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_expressed(one, key) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        arguments = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    elif isinstance(value, RecordsArguments):
        arguments = value.arguments
    else:
        raise NotExpressibleError(f"{key} holds {type(value).__name__}, which no file can name; give plain values")
    return {"class_path": _class_path(type(value), key), "init_args": _expressed(arguments, key)}


def _class_path(kind: type, key: str) -> str:
    """Return the shortest import path of a class."""
    name, module = kind.__qualname__, kind.__module__
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        package = ".".join(parts[:count])
        if package != "__main__" and getattr(sys.modules.get(package), name, None) is kind:
            return f"{package}.{name}"
    raise NotExpressibleError(f"{key} is of the class {name} of the running script; put it into a .py file of its own")


class _Dumper(yaml.SafeDumper):
    """Quotes every text but plain words, so that none reads as a number or a truth value."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full."""
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_path = all(part.isidentifier() for part in text.replace("/", ".").replace(":", ".").split("."))
    tag = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    plain = is_path and tag == _TEXT
    return dumper.represent_scalar(_TEXT, text, style=None if plain else "'")


_Dumper.add_representer(str, _represent)
