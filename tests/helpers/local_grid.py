"""A grid of Flower whose nodes are client apps in this process, with faults on demand."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

Fault = Callable[[Message], list[Message] | None]


class LocalGrid(Grid):
    """Answers messages at once, by client apps that run here.

    Args:
        app: What the nodes run.
        configs: The configuration of each node.

    Attributes:
        sent: All messages that were sent, in their order.
        online: Which nodes are there, by number from 1.
        keys: Whether nodes have public keys.
        fault: Called with each message before its node: a list of answers instead of the node's; None: none instead.
    """

    def __init__(self, app: ClientApp, configs: list[dict[str, Any]]) -> None:
        # Set by Flower in the process of a server app.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
        self._app, self._configs = app, configs
        self._answers: list[Message] = []
        self._ids = itertools.count(1)
        self.sent: list[Message] = []
        self.keys = True
        self.online = set(range(1, len(configs) + 1))
        self.fault: Fault = lambda message: None

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(self, *args: Any, **kwargs: Any) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.online)

    def get_nodes(self) -> Iterable[NodeInfo]:
        nodes = sorted(self.online)
        return [NodeInfo(node_id=node, public_key=f"key {node}".encode() if self.keys else b"") for node in nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"message {next(self._ids)}"
            self.sent.append(message)
            ids.append(message.metadata.message_id)
            instead = self.fault(message)
            self._answers += [self._answer(message)] if instead is None else instead
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found, self._answers = self._answers, []
        return found

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if node not in self.online:
            return Message(Error(5, "node is not available"), reply_to=message)
        context = Context(1, node, self._configs[node - 1], RecordDict(), {})
        try:
            return self._app(message, context)
        except Exception as error:
            return Message(Error(0, str(error)), reply_to=message)


def write_npz(path: Path, train: tuple[Any, Any], test: tuple[Any, Any]) -> Path:
    """Write a participant's file."""
    np.savez(path, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    return path
