"""The verbs that do not train: their options, and what they call."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from aequa_lightning.cli.help import ShortHelp
from aequa_lightning.cli.yaml_values import MODE, check_guards
from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.transfers import check_price
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.runtime.terminal import PlainConsole, printable

if TYPE_CHECKING:
    from aequa_lightning.cli.lightning_cli import AequaCLI


def run_command(words: Sequence[str]) -> None:
    """Run ``allocate``, ``audit``, ``federate``, ``report``, ``slurm`` or ``sweep``.

    Args:
        words: The verb and its options.
    """
    verbs = {
        "allocate": _allocate,
        "audit": _audit,
        "federate": _federate,
        "report": _report,
        "slurm": _slurm,
        "sweep": _sweep,
    }
    check_guards(words)
    verbs[words[0]](list(words[1:]))


def _parser(verb: str, description: str, *, example: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"aequa {verb}",
        description=description,
        usage=example,
        formatter_class=ShortHelp,
        exit_on_error=False,
        parser_mode=MODE,
    )


def _allocate(words: list[str]) -> None:
    parser = _parser(
        "allocate", "Choose the widths of a finished run again.", example="--run_dir runs/demo --slope 1.2"
    )
    parser.add_argument("--run_dir", type=str, required=True, help="the run folder")
    parser.add_argument("--contribution", type=str | None, help="the measure that is paid for; default: as in the run")
    parser.add_argument("--objective", type=str | None, help="what is minimised, such as cv; default: as in the run")
    parser.add_argument("--slope", type=float | str | None, help="a number or auto; default: as in the run")
    parser.add_argument("--payout", type=str | None, help="of AequaTraining, such as nearest; default: as in the run")
    parser.add_argument(
        "--individually_rational",
        type=bool | None,
        help="whether nobody is paid less than it reaches alone; default: as in the run",
    )
    parser.add_argument(
        "--price", type=float | None, help="money for a point of accuracy: also say who pays whom for what models leave"
    )
    parser.add_argument("--public_key", type=str, help="PEM file of the key that must have signed the run so far")
    options = parser.parse_args(words)
    if options.price is not None:
        check_price(options.price)
    public_key = None if options.public_key is None else user_path(options.public_key, "public_key")
    cli = _finished_run(options.run_dir, public_key)

    from aequa_lightning.mechanisms import Aequa, AequaTraining

    settings = ("contribution", "objective", "slope", "payout", "individually_rational")
    changes = {key: options[key] for key in settings if options[key] is not None}
    mechanism = cli.trainer.mechanism
    legal = {field.name for field in fields(mechanism)} if isinstance(mechanism, Aequa | AequaTraining) else set()
    if changes.keys() - legal:
        named = ", ".join(f"--{key}" for key in settings if key in changes and key not in legal)
        raise InputError(f"{named}: this run was paid by {mechanism}, which has no such setting to pay again by.")
    if "contribution" in changes:
        _check_measured(changes["contribution"], user_path(options.run_dir, "run_dir"))
    if isinstance(mechanism, Aequa | AequaTraining):
        mechanism = replace(mechanism, **changes)
    if options.price is not None and getattr(mechanism, "contribution", None) != "standalone":
        raise InputError(f"--price: contributions to {mechanism} are no accuracies, so a point of them has no price.")
    # Payments of an earlier allocation do not fit the new one.
    run_dir = user_path(options.run_dir, "run_dir")
    (run_dir / "transfers.csv").unlink(missing_ok=True)
    cli.trainer.allocate(cli.model, cli.datamodule, mechanism)
    if options.price is not None:
        _settle(run_dir, options.price)


def _settle(run_dir: Path, price: float) -> None:
    from aequa_lightning.report import read_run
    from aequa_lightning.report.what_if import settle, transfers_table, write_transfers

    run = read_run(run_dir)
    settlements = settle(run, price)
    console = PlainConsole()
    console.print(transfers_table(run, settlements, price))
    console.print(f"payments {write_transfers(run_dir, settlements, price)}", soft_wrap=True)


def _check_measured(contribution: str, run_dir: Path) -> None:
    from aequa_lightning.report import read_run

    measured = read_run(run_dir).scores
    if measured and contribution not in measured:
        raise InputError(
            f"--contribution {contribution!r} was not measured in this run; {run_dir / 'contributions.csv'} holds "
            f"{', '.join(measured)}. What is measured is trainer.assessment.measures of `aequa fit`."
        )


def _audit(words: list[str]) -> None:
    parser = _parser(
        "audit",
        "Verify what each reward file contains, and that it contains nothing else.",
        example="--run_dir runs/demo",
    )
    parser.add_argument("--run_dir", type=str, required=True, help="the run folder")
    parser.add_argument("--public_key", type=str, help="PEM file of the key that must have signed the manifest")
    options = parser.parse_args(words)
    public_key = None if options.public_key is None else user_path(options.public_key, "public_key")
    cli = _finished_run(options.run_dir, public_key)

    from aequa_lightning.commands.audit import audit_run
    from aequa_lightning.runtime.process_settings import own_settings

    # Statistics of norms are taken anew; rounding depends on the threads.
    with own_settings(threads=cli.trainer.threads):
        sound = audit_run(user_path(options.run_dir, "run_dir"), cli.model, cli.datamodule, public_key=public_key)
    if not sound:
        raise SystemExit(1)


def _federate(words: list[str]) -> None:
    parser = _parser(
        "federate",
        "Write the folder of a federation on Flower, for `flwr run`.",
        example="new clinics --participants lyon,oslo,rome",
    )
    parser.add_argument("action", type=str, help="new")
    parser.add_argument("folder", type=str, help="the folder to write; its name is the app's")
    parser.add_argument("--participants", type=str, default="lyon,oslo,rome", help="names, with commas between")
    options = parser.parse_args(words)
    if options.action != "new":
        raise InputError(f"federate {options.action!r} is unknown; say `aequa federate new NAME`")

    from aequa_lightning.federation.scaffold import write_federation

    names = [name.strip() for name in options.participants.split(",") if name.strip()]
    folder = write_federation(user_path(options.folder, "folder"), names)
    PlainConsole().print(f"written  {folder}; read its README.md", soft_wrap=True)


def _finished_run(run_dir: str, public_key: Path | None = None) -> "AequaCLI":
    """Build the model, data and trainer of a run from its folder, for one process on the CPU; see `verify_run`."""
    config = user_path(run_dir, "run_dir") / "config.yaml"
    if not config.is_file():
        raise InputError(f"run_dir={run_dir!r} holds no config.yaml; {_without_configuration(config.parent)}")

    from aequa_lightning.cli.lightning_cli import AequaCLI
    from aequa_lightning.rewards.files.verification import verify_run

    verify_run(config.parent, public_key=public_key)
    here = ["--trainer.run_dir", run_dir, "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    here += ["--trainer.num_nodes", "1", "--trainer.replicas", "1"]
    return AequaCLI(["fit", "--config", str(config), *here], execute=False)


def _without_configuration(run_dir: Path) -> str:
    """Return what to do with a folder that has no ``config.yaml``."""
    from aequa_lightning.run_folder.events import read_events

    reasons = [event.get("unwritten") for event in read_events(run_dir / "events.jsonl") if "unwritten" in event]
    if not reasons or reasons[-1] is None:
        return "give the folder of a run of `aequa fit`."
    return (
        f"the run was made from Python, and {reasons[-1]}. Of this run call CollaborativeTrainer.allocate, validate, "
        "test or predict, or aequa_lightning.commands.audit.audit_run, with its model and data."
    )


def _report(words: list[str]) -> None:
    parser = _parser("report", "Build the page of one run, or compare several.", example="runs/demo runs/mine")
    parser.add_argument("runs", nargs="*", type=str, metavar="DIR", help="one run folder, or several to compare")
    parser.add_argument("--run_dir", nargs="+", type=str, default=[], help="the same as an option")
    parser.add_argument(
        "--output",
        type=str | None,
        help="the page; default: report.html in the run folder, or a page beside the first of several, called by them",
    )
    options = parser.parse_args(words)
    folders = [*options.runs, *options.run_dir]
    if not folders:
        raise InputError("aequa report needs a run folder, or several to compare, such as `aequa report runs/demo`.")

    from aequa_lightning.report import build_report

    page = build_report(
        [user_path(folder, "run_dir") for folder in folders],
        output=None if options.output is None else user_path(options.output, "output"),
    )
    print(printable(str(page)))


def _slurm(words: list[str]) -> None:
    from aequa_lightning.commands.slurm import Job, job_script, submit

    parser = _parser(
        "slurm",
        "Write the script of a SLURM job that runs aequa fit or aequa sweep, or submit it. What stands after -- "
        "goes to that command.",
        example="--config configs/digits.yaml --nodes 2 --submit",
    )
    parser.add_class_arguments(Job, as_group=False)
    parser.add_argument("--submit", action="store_true", help="hand the script to sbatch instead of printing it")
    place = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:place])
    submits = options.pop("submit")
    written_by = shlex.join(["aequa", "slurm", *words])
    script = job_script(Job(**options.as_dict()), words[place + 1 :], written_by=written_by)
    print(submit(script) if submits else script, end="\n" if submits else "")


def _sweep(words: list[str]) -> None:
    from aequa_lightning.sweep.options import add_options

    parser = _parser(
        "sweep",
        "Run a matrix of data, partitions, networks, mechanisms and seeds side by side; the same command goes on.",
        example="--config configs/paper/small.yaml --only '{seed: 0}'",
    )
    add_options(parser)
    options = parser.parse_args(words)

    # Imported here: torch and lightning take seconds, which mistakes in the options need not wait for.
    from aequa_lightning.sweep.command import sweep

    sweep(options)
