"""The server app: the rounds of the engine, with the participants on nodes of a federation."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from jsonargparse import Namespace

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError, RunFailed
from aequa_lightning.federation.messages import REWARD, MessageRecord, message_content, parameters_digest
from aequa_lightning.federation.nodes import LONG_WAIT, Nodes
from aequa_lightning.federation.remote_cohort import Place, RemoteCohort, Terms, facts_of
from aequa_lightning.federation.remote_data import RemoteData
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.rewards.files.manifest import NAME
from aequa_lightning.run_folder.events import EventLog
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.runtime.paths import user_path


@dataclass(frozen=True)
class Options:
    """Options of the server app, in ``[tool.flwr.app.config]`` of the app's ``pyproject.toml``.

    Attributes:
        participants: Names of the participants.
        run_dir: The run folder.
        terms: What the participants have agreed on.
        timeout: Seconds that an answer may take.
        join_timeout: Seconds that the start waits for all participants; it goes on with the agreed minimum.
    """

    participants: tuple[str, ...]
    run_dir: Path
    terms: Terms
    timeout: float
    join_timeout: float

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Read the options.

        Raises:
            InputError: One is missing or out of range.

        Example:
            >>> Options.of({"participants": "lyon, rome"}).participants
            ('lyon', 'rome')
        """
        names = tuple(name.strip() for name in str(given.get("participants", "")).split(",") if name.strip())
        if not names or len(set(names)) < len(names):
            raise InputError(
                f"participants={given.get('participants')!r}: name each participant once, with commas between"
            )
        place = given.get("standalone", "home")
        if place not in get_args(Place):
            raise InputError(f"standalone={place!r} is unknown; choose home or server")
        least = int(given.get("min-participants", len(names)))
        if not 1 <= least <= len(names):
            raise InputError(f"min-participants={least} is outside 1 to {len(names)}, the number of participants")
        timeout, join = float(given.get("timeout", 600.0)), float(given.get("join-timeout", 600.0))
        if not (timeout > 0 and join > 0):
            raise InputError(f"timeout={timeout:g} and join-timeout={join:g} are seconds, above 0")
        run_dir = user_path(str(given.get("run-dir", "runs/federation")), "run-dir")
        return cls(names, run_dir, Terms(cast(Place, place), least), timeout, join)


def server_app(config: Path) -> ServerApp:
    """Return the app that runs on the server.

    Args:
        config: The federation's ``config.yaml``: what ``aequa fit`` takes, with the server's own data.
    """

    def main(grid: Grid, context: Context) -> None:
        run_federation(grid, config, Options.of(context.run_config))

    app = ServerApp()
    app.main()(main)
    return app


def run_federation(grid: Grid, config: Path, options: Options) -> Path:
    """Run the rounds, or go on with them, and send everybody its reward.

    Args:
        grid: Flower's.
        config: The federation's ``config.yaml``.
        options: The server's options.

    Returns:
        The run folder.

    Raises:
        InputError: Configuration, data or participants do not fit.
        RunFailed: Too few participants have joined, or answered in a round; the same call goes on.
    """
    words = ["fit", "--config", str(config), "--trainer.devices=1", "--trainer.record_downloads=true"]
    cli = AequaCLI([*words, f"--trainer.run_dir={options.run_dir}"], execute=False)
    server = cli.datamodule
    server.prepare_data()
    server.setup("fit")
    nodes = Nodes(grid, options.participants, timeout=options.timeout)
    nodes.told = facts_of(server)
    _wait(nodes, options)
    _check_start(cli.model, nodes)
    data = _remote_data(server, nodes)
    trainer = cli.trainer
    trainer.config = replace(trainer.config, configuration=_configuration(cli, data))

    def write_configuration() -> None:
        write_atomically(options.run_dir / "config.yaml", _configuration(cli, data).encode())

    trainer.cohort = partial(RemoteCohort, nodes=nodes, data=data, terms=options.terms, on_join=write_configuration)
    trainer.fit(cli.model, data, ckpt_path="last")
    _deliver(nodes, data, options.run_dir)
    return options.run_dir


def _wait(nodes: Nodes, options: Options) -> None:
    """Wait until everybody has joined, or for as long as is agreed."""
    end = time.monotonic() + options.join_timeout
    while True:
        nodes.greet()
        if len(nodes.facts) == len(options.participants):
            return
        if time.monotonic() > end:
            break
        time.sleep(min(LONG_WAIT, options.join_timeout))
    if len(nodes.facts) < options.terms.min_participants:
        joined = ", ".join(nodes.names[index] for index in sorted(nodes.facts)) or "nobody"
        others = "".join(f"; a node {reason}" for reason in nodes.strangers.values())
        raise RunFailed(
            f"{joined} of {', '.join(nodes.names)} has joined in {options.join_timeout:g} s, and "
            f"min-participants={options.terms.min_participants}{others}."
        )


def _check_start(model: SlimmableModule, nodes: Nodes) -> None:
    """Check that everybody's model begins as the server's does.

    Raises:
        InputError: One begins otherwise.
    """
    trainable = [parameter.detach().reshape(-1) for parameter in model.parameters() if parameter.requires_grad]
    own = parameters_digest(torch.cat(trainable))
    for index, facts in nodes.facts.items():
        if facts.parameters != own:
            raise InputError(
                f"{nodes.names[index]}: its model begins with other parameters than the server's; use the same "
                "config.yaml and the same versions of torch everywhere."
            )


def _remote_data(server: CollaborativeData, nodes: Nodes) -> RemoteData:
    count = len(nodes.names)
    has_classes = any(facts.class_counts for facts in nodes.facts.values())
    data = RemoteData(
        server,
        names=list(nodes.names),
        # Until somebody joins it counts as one with a single sample that never takes part.
        samples=[1] * count,
        class_counts=[[0] * server.num_classes for _ in range(count)] if has_classes else None,
        digests=["0" * 64] * count,
        node_keys=[""] * count,
    )
    for index, facts in nodes.facts.items():
        data.join(index, facts, nodes.keys[index])
    return data


def _configuration(cli: AequaCLI, data: RemoteData) -> str:
    """Return the content of the run's ``config.yaml``: what `aequa audit` needs, with what participants have told."""
    given: Any = {"server": cli.config["fit"].data, **data.told()}
    path = f"{RemoteData.__module__}.{RemoteData.__name__}"
    return cli.configuration(data=Namespace(class_path=path, init_args=Namespace(**given)))  # type: ignore[no-untyped-call]


def _deliver(nodes: Nodes, data: RemoteData, run_dir: Path) -> None:
    """Send everybody the files of its reward with the manifest, and record who could not be reached."""
    folder, record, events = run_dir / "rewards", MessageRecord(run_dir), EventLog(run_dir / "events.jsonl")
    nodes.greet()
    contents = {}
    for index, name in enumerate(data.names):
        names = [*(f"{name}.{ending}" for ending in ("ckpt", "pt2", "md")), NAME, "manifest.sig"]
        files = {file: (folder / file).read_bytes() for file in names if (folder / file).is_file()}
        contents[index] = message_content({}, files=files)
        record.note(REWARD, name, number=0, width=None, content=contents[index])
    for index, answer in nodes.ask(REWARD, contents).items():
        if isinstance(answer, str):
            events.append("undelivered", participant=data.names[index], reason=answer)
