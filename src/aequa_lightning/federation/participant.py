"""The client app: what one participant does when the server asks, with its own data, on its own machine."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from aequa_lightning.engine.evaluation import AtWidth, input_batches, score_of
from aequa_lightning.engine.local.optimizers import options_by_round
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.errors import InputError
from aequa_lightning.federation.messages import FILES, message_content, parameters_digest, settings_of, tensors_of
from aequa_lightning.federation.participant_data import ParticipantData
from aequa_lightning.federation.slices import WidthSlices
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.runtime.process_settings import own_settings
from aequa_lightning.slimmable import Distillation


def client_app(config: Path) -> ClientApp:
    """Return the app that runs on each participant's node.

    The node's own configuration (``flower-supernode --node-config``) says ``participant``, its name; ``data``, its
    ``.npz`` file; and ``rewards``, the folder for what it earns.

    Args:
        config: The federation's ``config.yaml``, the same for all; it is part of the app.

    Returns:
        The app; its messages are answered by :class:`Participant`.
    """
    app = ClientApp()

    def answering(action: str) -> Any:
        def answer(message: Message, context: Context) -> Message:
            found = getattr(Participant.of(config, context), action)(message.content)
            return Message(found, reply_to=message)

        return answer

    app.query("facts")(answering("facts"))
    app.query("reward")(answering("reward"))
    app.train("alone")(answering("alone"))
    app.train("round")(answering("round"))
    return app


class Participant:
    """One participant.

    Args:
        config: The federation's ``config.yaml``.
        name: Its name.
        data: Its ``.npz`` file.
        rewards: Folder for what it earns.
    """

    def __init__(self, config: Path, *, name: str, data: Path, rewards: Path) -> None:
        self.config, self.name, self.data, self.rewards = config, name, data, rewards

    @classmethod
    def of(cls, config: Path, context: Context) -> "Participant":
        """Return the participant of a node.

        Raises:
            InputError: The node's configuration lacks something.
        """
        node, run = context.node_config, context.run_config
        if "partition-id" in node and "participant" not in node:
            # Flower's simulation numbers its nodes.
            name = _listed(run["participants"])[int(node["partition-id"])]
            node = {"participant": name, "data": f"{run.get('data-dir', 'data')}/{name}.npz", **node}
        for key, example in {"participant": "lyon", "data": "/srv/lyon.npz"}.items():
            if not node.get(key):
                raise InputError(f'--node-config lacks {key}; give it to flower-supernode, such as {key}="{example}"')
        name = str(node["participant"])
        rewards = str(node.get("rewards", f"rewards-{name}"))
        return cls(
            config,
            name=name,
            data=user_path(str(node["data"]), "node-config data"),
            rewards=user_path(rewards, "node-config rewards"),
        )

    # --- what the server asks for --------------------------------------------------------------------------------

    def facts(self, content: RecordDict) -> RecordDict:
        """Say who this is, how much data it has, and by which parameters its model begins."""
        with self._at_work(content) as (local, data):
            return message_content(
                {
                    "participant": self.name,
                    "samples": data.sample_counts()[0],
                    "class_counts": data.class_counts()[0].tolist(),
                    "digest": data.digest(),
                    "parameters": parameters_digest(local.first),
                }
            )

    def alone(self, content: RecordDict) -> RecordDict:
        """Train alone for as many rounds as the run has, and say what that reaches."""
        told, start = settings_of(content), time.perf_counter()
        with self._at_work(content) as (local, data):
            parameters, state = local.first, None
            for number in range(int(told["rounds"])):
                with local.trainer.with_options(local.schedule[number]):
                    local.trainer.train(
                        parameters,
                        data.samples(),
                        work=local.work,
                        keys=("standalone", int(told["index"]), "round", number + 1),
                        grid=(1.0,),
                        optimizer_state=state,
                    )
                parameters, state = local.trainer.parameters, local.trainer.optimizer_state()
            module = local.trainer.classifier
            network, cpu = module.network, torch.device("cpu")
            if network.has_statistics:
                network.recalibrate(input_batches(module, data.pooled(), cpu), [1.0])
            seconds = time.perf_counter() - start
            if told["standalone"] == "server":
                tensors = {name: one for name, one in network.full.state_dict().items() if one.is_floating_point()}
                return message_content({"seconds": seconds}, tensors=tensors)
            reached = score_of(module, AtWidth(network, 1.0), data.test(), device=cpu).value
            return message_content({"seconds": seconds, "held_out_accuracy": reached})

    def round(self, content: RecordDict) -> RecordDict:
        """Train from the slices that the server sends, and return how they have changed."""
        told, began = settings_of(content), time.perf_counter()
        width, number = float(told["width"]), int(told["round"])
        distillation = None if told["distillation"] is None else Distillation(**told["distillation"])
        with self._at_work(content) as (local, data):
            slices = WidthSlices(local.trainer.classifier.network)
            received = slices.put(tensors_of(content, like=slices.take(local.first, width)), width)
            with local.trainer.with_options(local.schedule[number - 1]):
                loss = local.trainer.train(
                    received,
                    data.samples(),
                    work=LocalWork(int(told["epochs"]), told["steps"]),
                    keys=("round", number, "participant", int(told["index"])),
                    grid=tuple(told["grid"]),
                    distillation=distillation,
                )
            changed = slices.take(local.trainer.parameters - received, width)
        return message_content({"loss": loss, "seconds": time.perf_counter() - began}, tensors=changed)

    def reward(self, content: RecordDict) -> RecordDict:
        """Write the files of the reward, and say how many they are."""
        files = content.config_records[FILES]
        for name, data in files.items():
            if Path(name).name != name or not isinstance(data, bytes):
                raise InputError(f"the server sends {name!r:.80}, which is no file of a reward")
            write_atomically(self.rewards / name, data)
        return message_content({"files": len(files)})

    # --- at work -------------------------------------------------------------------------------------------------

    @contextmanager
    def _at_work(self, content: RecordDict) -> Iterator[tuple["LocalState", ParticipantData]]:
        """Give model and data within the block, with threads and random numbers of its own."""
        state = _prepared(self.config, self.data, yaml.safe_dump(settings_of(content)["data"]))
        with own_settings(threads=state.threads):
            yield state, state.data


class LocalState:
    """Model, data and settings of a participant, built as the server builds its own.

    Attributes:
        trainer: Trains one participant.
        data: Its data.
        work: Its work in a round.
        schedule: The optimizer's options in each round.
        first: Parameters that the model begins with, (P,).
        threads: Threads of training.
    """

    def __init__(self, config: Path, data: Path, told: Mapping[str, Any]) -> None:
        from aequa_lightning.cli.lightning_cli import AequaCLI

        configuration = copy.deepcopy(yaml.safe_load(config.read_text(encoding="utf-8")))
        configuration["data"] = {
            "class_path": "aequa_lightning.federation.participant_data.ParticipantData",
            "init_args": {
                "path": str(data),
                "classes_told": told["num_classes"],
                "mean": told["mean"],
                "std": told["std"],
                "batch_size": told["batch_size"],
            },
        }
        configuration["trainer"] = {**configuration.get("trainer", {}), "devices": 1, "run_dir": str(data.parent)}
        cli = AequaCLI({"fit": configuration}, execute=False)
        assert isinstance(cli.datamodule, ParticipantData)
        self.data, run, self.threads = cli.datamodule, cli.trainer.config, cli.trainer.threads
        self.work = run.work
        with own_settings(threads=self.threads):
            self.data.setup("fit")
            cli.trainer.fabric.launch()
            self.trainer = LocalTrainer(
                cli.trainer.fabric,
                cli.model,
                batch_size=self.data.batch_size,
                seed=run.seed,
                augmentation=self.data.augmentation,
            )
        self.schedule = options_by_round(self.trainer.optimizer.optimizer, self.trainer.scheduler, run.max_rounds)
        self.first: Tensor = self.trainer.parameters.clone()


# A node that is not restarted for each message builds its model once.
@lru_cache(maxsize=16)
def _prepared(config: Path, data: Path, told: str) -> LocalState:
    return LocalState(config, data, yaml.safe_load(told))


def _listed(names: Any) -> list[str]:
    return [name.strip() for name in str(names).split(",") if name.strip()]
