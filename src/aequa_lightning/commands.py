"""The verbs that look after a finished run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from aequa_lightning.errors import InputError

if TYPE_CHECKING:
    from aequa_lightning.cli import AequaCLI


def run_command(words: Sequence[str]) -> None:
    """Run ``allocate``, ``audit``, ``report`` or ``sweep``.

    Args:
        words: The verb and its options.
    """
    {"allocate": _allocate, "audit": _audit, "report": _report, "sweep": _sweep}[words[0]](list(words[1:]))


def _parser(verb: str, description: str, *, example: str) -> ArgumentParser:
    epilog = f"example: aequa {verb} {example}"
    return ArgumentParser(prog=f"aequa {verb}", description=description, epilog=epilog, exit_on_error=False)


def _allocate(words: list[str]) -> None:
    parser = _parser(
        "allocate", "Choose the widths of a finished run again.", example="--run_dir runs/demo --slope 1.2"
    )
    parser.add_argument("--run_dir", type=str, required=True, help="the run folder")
    parser.add_argument("--objective", type=str | None, help="what is minimised, such as cv; default: as in the run")
    parser.add_argument("--slope", type=float | str | None, help="a number or auto; default: as in the run")
    options = parser.parse_args(words)
    cli = _finished_run(options.run_dir)

    from aequa_lightning.mechanisms import Aequa

    changes = {key: options[key] for key in ("objective", "slope") if options[key] is not None}
    mechanism = cli.trainer.mechanism
    if changes and not isinstance(mechanism, Aequa):
        raise InputError(f"--objective and --slope are settings of Aequa; this run was paid by {mechanism}.")
    cli.trainer.allocate(
        cli.model, cli.datamodule, replace(mechanism, **changes) if isinstance(mechanism, Aequa) else mechanism
    )


def _audit(words: list[str]) -> None:
    parser = _parser(
        "audit", "Prove of each reward file what it holds and what it does not.", example="--run_dir runs/demo"
    )
    parser.add_argument("--run_dir", type=str, required=True, help="the run folder")
    options = parser.parse_args(words)
    cli = _finished_run(options.run_dir)
    if not cli.trainer.audit(cli.model):
        raise SystemExit(1)


def _finished_run(run_dir: str) -> "AequaCLI":
    """Build the model, data and trainer of a run from its folder, for one process on the CPU."""
    config = Path(run_dir) / "config.yaml"
    if not config.is_file():
        raise InputError(f"run_dir={run_dir!r} holds no config.yaml; give the folder of a run of `aequa fit`.")

    from aequa_lightning.cli import AequaCLI

    here = ["--trainer.run_dir", run_dir, "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    here += ["--trainer.num_nodes", "1", "--trainer.replicas", "1"]
    return AequaCLI(["fit", "--config", str(config), *here], execute=False)


def _report(words: list[str]) -> None:
    parser = _parser(
        "report", "Build the page of one run, or compare several.", example="--run_dir runs/demo runs/mine"
    )
    parser.add_argument("--run_dir", nargs="+", type=str, required=True, help="one run folder, or several to compare")
    parser.add_argument("--output", type=str | None, help="the page; default: in the first run folder")
    options = parser.parse_args(words)

    from aequa_lightning.report import build_report

    page = build_report(
        [Path(folder) for folder in options.run_dir], output=Path(options.output) if options.output else None
    )
    print(page)


def _sweep(words: list[str]) -> None:
    # Imported here: torch and lightning take seconds, which the other verbs need not wait for.
    from aequa_lightning.sweep.command import sweep

    sweep(words)
