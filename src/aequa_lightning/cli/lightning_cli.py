"""The training verbs of ``aequa``: LightningCLI with :class:`CollaborativeTrainer` as the trainer."""

import logging
import os
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from typing_extensions import override

from aequa_lightning.callbacks import (  # noqa: F401  short class names in configurations
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    Progress,
    Rewards,
)
from aequa_lightning.cli.help import ShortHelp
from aequa_lightning.cli.yaml_values import MODE, PREFIX, check_finite, check_guards, check_variables
from aequa_lightning.data import CollaborativeData
from aequa_lightning.data.loaded import check_statements
from aequa_lightning.engine.local.optimizers import refusing_bad_options
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.rewards.files.verification import verify_words
from aequa_lightning.runtime.process_settings import own_settings
from aequa_lightning.trainer.run_dir import fill_placeholders
from aequa_lightning.trainer.trainer import CollaborativeTrainer


class AequaCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` as Lightning users know them.

    Args:
        args: Words of the command line after ``aequa``, or a verb with its configuration.
        execute: Whether to run the verb, or only to build model, data and trainer.
    """

    trainer: CollaborativeTrainer  # type: ignore[assignment]  # any class with the verbs as methods serves
    model: SlimmableModule
    datamodule: CollaborativeData

    def __init__(self, args: list[str] | dict[str, Any], *, execute: bool = True) -> None:
        self._execute = execute
        # Lightning prints banners in every process; the run prints one summary at its end.
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with own_settings():
            self._build_and_run(args)

    def _build_and_run(self, args: list[str] | dict[str, Any]) -> None:
        super().__init__(
            model_class=SlimmableModule,
            datamodule_class=CollaborativeData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=CollaborativeTrainer,  # type: ignore[arg-type]
            # The trainer writes config.yaml itself, in the run folder, once the input has been checked.
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "default_env": True,
                "env_prefix": PREFIX,
                "prog": "aequa",
                "formatter_class": ShortHelp,
                # `main` prints the error alone, without the usage of all options.
                "exit_on_error": False,
                "parser_mode": MODE,
                **{verb: {"exit_on_error": False, "parser_mode": MODE} for verb in self.subcommands()},
            },
            args=args,
        )

    @override
    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Lightning takes true, too, for a seed that nobody knows.
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=self.seed_everything_default,
            help="Decides everything random in the run; a whole number in [0, 2**32).",
        )

    @override
    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(CollaborativeTrainer, "trainer", instantiate=False, sub_configs=True)
        parser.add_lightning_class_args(SlimmableModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(CollaborativeData, "data", subclass_mode=True)

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key in ("num_classes", "input_shape", "vocabulary_size"):
            parser.link_arguments("data", f"model.init_args.{key}", partial(stated, key=key), apply_on="instantiate")
        parser.link_arguments("seed_everything", "trainer.seed", compute_fn=whole_number)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        # Lightning warns when words are given while the process has its own; here they are always given.
        if isinstance(args, list):
            # Parsing imports the classes that a configuration names.
            verify_words(args)
            check_variables(os.environ, self._known_variables())
        try:
            self.config = _parsed(parser, args)
        except UnicodeDecodeError as error:
            raise InputError(
                f"--config: a file holds characters that this locale's encoding, {error.encoding}, lacks; set the "
                "environment variable PYTHONUTF8=1."
            ) from error
        check_finite(self.config[self.config.subcommand].as_dict())

    def _known_variables(self) -> list[str]:
        """Return the environment variables that fill options."""
        dests = [action.dest for action in self.parser._actions]
        for verb, parser in self._subcommand_parsers.items():
            dests += [f"{verb}.{action.dest}" for action in parser._actions]
        return [f"{PREFIX}_{dest.replace('.', '__')}".upper() for dest in dests]

    @override
    def _parse_ckpt_path(self) -> None:
        # Lightning lets the values in a checkpoint override the command line. Here the command line rules: what a file
        # says of its network is compared with the configuration and never built.
        return

    def before_fit(self) -> None:
        """Hand the resolved configuration to the trainer."""
        self.trainer.config = replace(self.trainer.config, configuration=self.configuration())

    def configuration(self, **changes: Any) -> str:
        """Return the resolved configuration; started again from it, a run begins at the beginning.

        Args:
            **changes: Top-level keys that have another value, such as ``data``.
        """
        verb = str(self.subcommand)
        config = self.config[verb].clone()
        for key, value in {**changes, "ckpt_path": None}.items():
            config[key] = value
        # Its placeholders have been filled: the run is found again where it is.
        config["trainer"]["run_dir"] = fill_placeholders(config["trainer"]["run_dir"], seed=self.trainer.config.seed)
        written: str = self._subcommand_parsers[verb].dump(config, skip_unset=False)
        return written

    @override
    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        with warnings.catch_warnings():
            # The model's own optimizer is only the default of the `optimizer` key.
            warnings.filterwarnings("ignore", ".*configure_optimizers` will be overridden")
            with refusing_bad_options():
                super()._add_configure_optimizers_method_to_model(subcommand)

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        if self._execute:
            super()._run_subcommand(subcommand)


def _parsed(parser: LightningArgumentParser, args: ArgsType) -> Namespace:
    if isinstance(args, dict):
        ((verb, configuration),) = args.items()
        parsed: Namespace = parser.parse_object({"subcommand": verb, verb: configuration})
    else:
        assert isinstance(args, list)
        check_guards(args, os.environ)
        parsed = parser.parse_args(args)
    return parsed


def stated(data: CollaborativeData, *, key: str) -> Any:
    """Return what a data set states of its samples.

    Args:
        data: The data.
        key: Name of the attribute.

    Raises:
        InputError: The class lacks number of classes or shape of a sample.
    """
    check_statements(data)
    return getattr(data, key)


def whole_number(seed: int) -> int:
    """Return the seed.

    Raises:
        InputError: It is out of range.

    Example:
        >>> whole_number(3)
        3
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed_everything={seed} is outside [0, 2**32); give a smaller number that is not negative.")
    return seed
