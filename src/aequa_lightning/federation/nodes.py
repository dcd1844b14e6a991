"""The nodes of a federation: who is there, and what they answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from aequa_lightning.errors import InputError
from aequa_lightning.federation.facts import Facts
from aequa_lightning.federation.messages import FACTS, message_content, settings_of

# Seconds between two looks for answers, doubled up to the longer.
SHORT_WAIT, LONG_WAIT = 0.05, 1.0


class Nodes:
    """Finds the participants among the nodes, and asks them.

    Args:
        grid: Flower's.
        names: Names of the participants.
        timeout: Seconds that an answer may take.

    Attributes:
        facts: What each participant that has joined tells of itself, by its index.
        keys: Public keys of nodes, by the participant's index; empty where nodes are not authenticated.
        told: What participants must know of the federation's data.
        on_wait: Called again and again while answers are awaited.
    """

    def __init__(self, grid: Grid, names: Sequence[str], *, timeout: float) -> None:
        self._grid, self.names, self._timeout = grid, tuple(names), timeout
        self.facts: dict[int, Facts] = {}
        self.keys: dict[int, bytes] = {}
        self._ids: dict[int, int] = {}
        # Nodes that have said who they are not, and why: they are not asked again.
        self.strangers: dict[int, str] = {}
        self.told: Mapping[str, Any] = {}
        self.on_wait: Callable[[], object] = lambda: None

    def greet(self) -> list[int]:
        """Ask nodes that are not known yet who they are.

        Returns:
            The participants that have joined by it, ascending.
        """
        keys = {node.node_id: bytes(node.public_key) for node in self._grid.get_nodes()}
        known = {*self._ids.values(), *self.strangers}
        asked = [node for node in sorted(keys) if node not in known]
        content = message_content({"participants": list(self.names), "data": dict(self.told)})
        answers = self._ask({node: (node, content) for node in asked}, FACTS)
        joined = []
        for node, answer in answers.items():
            try:
                index, facts = self._introduced(answer)
            except InputError as error:
                self.strangers[node] = str(error)
                continue
            former = self._ids.get(index)
            if former is not None and (former in keys or keys[node] != self.keys[index]):
                self.strangers[node] = f"calls itself {self.names[index]!r}, as another node does"
                continue
            # A node without a key has another number when it is started again.
            self._ids[index], self.facts[index], self.keys[index] = node, facts, keys[node]
            joined += [index] if former is None else []
        return sorted(joined)

    def ask(self, kind: str, contents: Mapping[int, RecordDict]) -> dict[int, RecordDict | str]:
        """Send a message to each of some participants, and wait for the answers.

        Args:
            kind: Kind of the messages.
            contents: Content for each participant, by its index.

        Returns:
            For each participant its first answer, or why there is none.
        """
        reachable = {index: (self._ids[index], content) for index, content in contents.items() if index in self._ids}
        found = self._ask(reachable, kind)
        return {index: found.get(index, "has not joined") for index in contents}

    def _ask(self, contents: Mapping[int, tuple[int, RecordDict]], kind: str) -> dict[int, RecordDict | str]:
        messages = {key: Message(content, node, kind) for key, (node, content) in contents.items()}
        if not messages:
            return {}
        ids = list(self._grid.push_messages(list(messages.values())))
        waiting = {message_id: key for message_id, key in zip(ids, messages, strict=True) if message_id}
        answers: dict[int, RecordDict | str] = dict.fromkeys(messages, f"has not answered in {self._timeout:g} s")
        end, wait = time.monotonic() + self._timeout, SHORT_WAIT
        while waiting and time.monotonic() < end:
            for reply in self._grid.pull_messages(list(waiting)):
                # A second answer to the same message is not waited for, and not taken.
                key = waiting.pop(reply.metadata.reply_to_message_id, None)
                if key is not None:
                    answers[key] = _failure(reply) if reply.has_error() else reply.content
            self.on_wait()
            if waiting:
                time.sleep(wait)
                wait = min(2 * wait, LONG_WAIT)
        return answers

    def _introduced(self, answer: RecordDict | str) -> tuple[int, Facts]:
        """Return who a node is, and its facts.

        Raises:
            InputError: It is no participant, or says something that cannot be.
        """
        if isinstance(answer, str):
            raise InputError(answer)
        told = settings_of(answer)
        name, counts = told.get("participant"), told.get("class_counts")
        if name not in self.names:
            raise InputError(f"calls itself {name!r:.80}, which is none of the participants")
        if not (_is_count(told.get("samples")) and told["samples"] > 0):
            raise InputError(f"{name} says that it has {told.get('samples')!r:.40} samples")
        if not (isinstance(counts, list) and all(map(_is_count, counts)) and sum(counts) in (0, told["samples"])):
            raise InputError(f"{name} tells class counts that are not those of its samples")
        texts = [told.get("digest"), told.get("parameters")]
        if not all(isinstance(text, str) and len(text) == 64 for text in texts):
            raise InputError(f"{name} tells no digests")
        return self.names.index(name), Facts(told["samples"], tuple(counts), *map(str, texts))


def _failure(reply: Message) -> str:
    """Return why a node has not done what it was asked for, in one line."""
    lines = str(reply.error.reason or f"error {reply.error.code}").strip().splitlines()
    return f"failed: {lines[-1]:.300}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62
