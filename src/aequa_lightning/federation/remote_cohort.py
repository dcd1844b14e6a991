"""RemoteCohort: the participants of a round on their own machines, in the place of those in the engine's processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flwr.app import RecordDict

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import Callbacks
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.local.corrections import NoCorrection
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.round_results import ParticipantReport
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.standalone import measure_alone, record_results
from aequa_lightning.engine.standalone_results import StandaloneResult
from aequa_lightning.errors import InputError, RunFailed
from aequa_lightning.federation.messages import (
    ALONE,
    ROUND,
    MessageRecord,
    message_content,
    settings_of,
    tensors_of,
)
from aequa_lightning.federation.nodes import Nodes
from aequa_lightning.federation.remote_data import RemoteData
from aequa_lightning.federation.slices import WidthSlices

Place = Literal["home", "server"]


@dataclass(frozen=True)
class Terms:
    """What the participants have agreed on.

    Attributes:
        standalone: Where it is measured what each reaches alone: at ``home``, on its own held-out part, or by the
            ``server``, to which it then sends the model that it has trained alone.
        min_participants: Fewest answers that a round is done with, >= 1.
    """

    standalone: Place = "home"
    min_participants: int = 1


class RemoteCohort(CohortTrainer):
    """Sends each participant of a round the slices of its width, and passes its update to the server.

    Args:
        run: The run, on one process.
        callbacks: As of the engine.
        nodes: The nodes.
        data: What participants say of their data; it is kept up to date.
        terms: What is agreed.
        on_join: Called when somebody has joined during the rounds.

    Raises:
        InputError: The run needs something of participants that they do not send.
    """

    def __init__(
        self,
        run: Run,
        callbacks: Callbacks,
        *,
        nodes: Nodes,
        data: RemoteData,
        terms: Terms,
        on_join: Callable[[], None],
    ) -> None:
        super().__init__(run, callbacks)
        self._on_join = on_join
        self._nodes, self._data, self._terms = nodes, data, terms
        self._record, self._slices = MessageRecord(run.config.run_dir), WidthSlices(run.classifier.network)
        self._answered: set[int] = set()
        nodes.on_wait = run.status.note
        config = run.config
        for key, fine in {
            "correction": type(config.correction) is NoCorrection,
            "participant_state": config.participant_state == "reset",
            "adversaries": not config.adversaries,
            "replicas": run.topology.processes == 1,
        }.items():
            if not fine:
                raise InputError(f"trainer.{key}: a federation does not have it; leave it out.")

    # --- training alone ------------------------------------------------------------------------------------------

    def train_alone(self) -> bool:
        """Let everybody who has joined train alone, unless that is known.

        Whoever has not joined yet counts as having brought nothing.
        """
        run, store = self._run, self._run.standalone
        if store is None:
            return True
        for index in store.missing():
            store.assume(index, StandaloneResult(run.data.names[index], run.samples[index], 0.0, 0.0, None, None, 0.0))
        self._ask_alone([index for index in store.missing() if index in self._nodes.facts])
        return not run.is_stopping()

    def _ask_alone(self, participants: list[int]) -> None:
        """Ask participants to train alone, and keep what they reach."""
        run, store = self._run, self._run.standalone
        if store is None or not participants:
            return
        run.show("each alone", 0, len(participants))
        contents = {
            index: self._content(index, {"rounds": run.config.max_rounds, "standalone": self._terms.standalone})
            for index in participants
        }
        answers = self._send(ALONE, contents, number=0)
        for place, (index, answer) in enumerate(answers.items(), start=1):
            try:
                if isinstance(answer, str):
                    raise InputError(answer)
                store.save(self._result_alone(index, answer))
                self._callbacks.call("on_standalone_end", run, index)
            except InputError as error:
                run.record("absent", participant=run.data.names[index], round=run.round, reason=f"alone: {error}")
            run.show("each alone", place, len(participants))
        missing = store.missing()
        record_results(run, store, known=[one for one in range(run.data.participants) if one not in missing])

    def _result_alone(self, index: int, answer: RecordDict) -> StandaloneResult:
        run, told = self._run, settings_of(answer)
        seconds = _number(told, "seconds", least=0.0)
        if self._terms.standalone == "home":
            own = _number(told, "held_out_accuracy", least=0.0, most=1.0)
            return StandaloneResult(run.data.names[index], run.samples[index], own, own, None, None, seconds)
        network = run.classifier.network.full
        trained = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        found = tensors_of(answer, like=trained)
        statistics = {name: buffer for name, buffer in network.named_buffers() if name in found}
        with run.model_at(run.parameters):
            for name, parameter in network.named_parameters():
                if parameter.requires_grad:
                    parameter.data.copy_(found[name])
            for name, buffer in statistics.items():
                buffer.copy_(found[name])
            return measure_alone(run, index, seconds=seconds)

    # --- a round -------------------------------------------------------------------------------------------------

    def train_all(self, number: int) -> dict[int, ParticipantReport]:
        """Let the participants of a round train, as far as they answer.

        Args:
            number: The round.

        Returns:
            A report on each who has answered.

        Raises:
            RunFailed: Fewer than agreed have answered.
        """
        run, present = self._run, self._run.cohort.completed
        self._welcome()
        contents = {index: self._instruction(number, index) for index in present if index in self._nodes.facts}
        answers: dict[int, RecordDict | str] = dict.fromkeys(present, "has not joined")
        answers |= self._send(ROUND, contents, number=number)
        reports: dict[int, ParticipantReport] = {}
        # In the order of participants, whoever answers first.
        for index, answer in answers.items():
            if isinstance(answer, str):
                run.record("absent", participant=run.data.names[index], round=number, reason=answer)
                continue
            reports[index] = self._take(number, index, answer)
            self._callbacks.call("on_participant_end", run, index)
        self._answered = set(reports)
        if len(reports) < self._terms.min_participants:
            raise RunFailed(
                f"round {number}: {len(reports)} of {len(present)} participants have answered, fewer than "
                f"min-participants={self._terms.min_participants}. {run.config.run_dir} holds round {run.round}: start "
                "the federation again to go on."
            )
        return reports

    def answered(self, cohort: Cohort) -> Cohort:
        """Return the round's participants: whoever has not answered counts as dropped out."""
        completed = [index for index in cohort.completed if index in self._answered]
        return Cohort(completed, sorted({*cohort.dropped, *cohort.completed} - {*completed}))

    def _welcome(self) -> None:
        """Take in who has joined since: its data's facts, and what it reaches alone."""
        joined = self._nodes.greet()
        for index in joined:
            self._data.join(index, self._nodes.facts[index], self._nodes.keys[index])
            self._run.samples[index] = self._nodes.facts[index].samples
            samples = self._nodes.facts[index].samples
            self._run.record("join", participant=self._run.data.names[index], round=self._run.round, samples=samples)
        if joined:
            self._on_join()
        self._ask_alone([index for index in joined if self._run.standalone and index in self._run.standalone.missing()])

    def _instruction(self, number: int, index: int) -> RecordDict:
        """Return what a participant is told in a round, and the slices that it starts from."""
        run = self._run
        (received,), grid = self._start([index])
        work, distillation = run.work(index), run.distillation
        settings = {
            "round": number,
            "index": index,
            "width": run.widths[index],
            "grid": list(grid),
            "epochs": work.epochs,
            "steps": work.steps,
            "distillation": None if distillation is None else vars(distillation),
        }
        return self._content(index, settings, width=run.widths[index], received=received)

    def _content(
        self, index: int, settings: Mapping[str, Any], *, width: float | None = None, received: Any = None
    ) -> RecordDict:
        facts = {**settings, "index": index, "data": facts_of(self._data)}
        return message_content(facts, tensors=None if width is None else self._slices.take(received, width))

    def _take(self, number: int, index: int, answer: RecordDict) -> ParticipantReport:
        """Pass an answer's update to the server; an unusable one is refused like one that is not finite."""
        run, width = self._run, self._run.widths[index]
        try:
            told = settings_of(answer)
            loss, seconds = _number(told, "loss"), _number(told, "seconds", least=0.0)
            parts = tensors_of(answer, like=self._slices.take(run.parameters, width))
        except InputError as error:
            run.record("absent", participant=run.data.names[index], round=number, reason=f"refused: {error}")
            return ParticipantReport(0.0, True, 0.0)
        update = self._slices.put(parts, width).to(run.topology.device)
        (accepted,) = self._submit(number, [index], [loss], update[None])
        return ParticipantReport(loss if accepted else 0.0, not accepted, seconds)

    def _send(self, kind: str, contents: Mapping[int, RecordDict], *, number: int) -> dict[int, RecordDict | str]:
        """Record the messages, send them, and return the answers."""
        for index, content in contents.items():
            width = self._run.widths[index] if kind == ROUND else None
            self._record.note(kind, self._run.data.names[index], number=number, width=width, content=content)
        return self._nodes.ask(kind, contents)


def facts_of(data: CollaborativeData) -> dict[str, Any]:
    """Return what participants must know of the federation's data."""
    return {
        "num_classes": data.num_classes,
        "batch_size": data.batch_size,
        "mean": None if data.mean is None else list(data.mean),
        "std": None if data.std is None else list(data.std),
    }


def _number(told: Mapping[str, Any], key: str, *, least: float | None = None, most: float | None = None) -> float:
    """Return a number of an answer; one that is not finite stays what it is.

    Raises:
        InputError: It is none, or out of range.
    """
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"its {key} is {value!r:.40}, not a number")
    number = float(value)
    if (least is not None and not number >= least) or (most is not None and not number <= most):
        raise InputError(f"its {key} is {number:g}, which cannot be")
    return number
