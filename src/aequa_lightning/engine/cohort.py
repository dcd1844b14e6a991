"""Trains the participants that this process hosts in a round, and sends the server their updates."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.engine.callback import Callbacks
from aequa_lightning.engine.local.state import ParticipantStates
from aequa_lightning.engine.processes.assignment import LoadBalancer
from aequa_lightning.engine.rounds import ParticipantReport
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.exact_sum import acceptable
from aequa_lightning.engine.stacking.schedule import Job
from aequa_lightning.engine.stacking.trainer import StackedTrainer, form_stacks


class CohortTrainer:
    """Trains participants one by one or in stacks, and passes on to the server what may be averaged.

    Args:
        run: The run; its server receives the updates.
        callbacks: Called before and after a participant's training.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        self._run, self._callbacks = run, callbacks
        self._placement = LoadBalancer(run.samples)
        self._stacked = StackedTrainer(run.local)
        self._corrector = run.config.correction.build(run.parameters, run.data.participants)
        self._states = ParticipantStates(
            run.config.run_dir / "participants", run.data.names, deletes=run.is_global_zero
        )

    def check(self) -> None:
        """Prove that what participants remember is there.

        Raises:
            InputError: A file is missing or damaged.
        """
        if self._run.config.participants_remember:
            self._states.check(self._run.topology.rank, self._run.topology.processes)

    def train_all(self, number: int) -> dict[int, ParticipantReport]:
        """Train everybody whom this process's group hosts in a round.

        Args:
            number: The round.

        Returns:
            A report on each of them.
        """
        run, present = self._run, self._run.cohort.completed
        stacks = form_stacks(
            present,
            [run.widths[index] for index in present],
            [run.samples[index] for index in present],
            run.stacking.size,
        )
        reports: dict[int, ParticipantReport] = {}
        for stack in self._placement.assign(stacks, run.topology.groups)[run.topology.group]:
            run.status.note(**run.status_of(*stack))
            began = time.perf_counter()
            losses = self.train(number, stack)
            seconds = (time.perf_counter() - began) / len(stack)
            for index, loss in zip(stack, losses, strict=True):
                reports[index] = ParticipantReport(loss or 0.0, loss is None, seconds)
                self._callbacks.call("on_participant_end", run, index)
        return reports

    def train(self, number: int, stack: Sequence[int]) -> list[float | None]:
        """Train some participants of one width and take in their updates.

        Args:
            number: The round.
            stack: Who trains, by one step if there are several.

        Returns:
            The mean loss of each; None where its update would poison the average and was refused.
        """
        if len(stack) > 1:
            losses, updates = self._train_stack(number, stack)
        else:
            loss, update = self.train_one(number, stack[0])
            losses, updates = [loss], update[None]
        sound = self._accept(number, stack, losses, updates)
        return [loss if fine else None for loss, fine in zip(losses, sound, strict=True)]

    def train_one(self, number: int, index: int) -> tuple[float, Tensor]:
        """Train one participant from what it holds and remembers.

        Args:
            number: The round.
            index: The participant.

        Returns:
            Its mean loss and its update, of shape (P,).
        """
        run = self._run
        (received,), grid = self._hand_out([index])
        kept = self._states.load(index) if run.config.participants_remember else {}
        self._corrector.begin(received, kept.get("variate"))
        loss = run.local.train(
            received,
            run.participant(index),
            work=run.work(index),
            keys=self._keys(number, index),
            grid=grid,
            distillation=run.distillation,
            correction=self._corrector,
            optimizer_state=kept.get("optimizer"),
        )
        trained = run.local.parameters - received
        update = run.cheating.send(index, trained, received=received, round=number)
        # A kept momentum may stem from a round in which the participant held more.
        width = run.widths[index]
        return loss, update if width == 1 else update * run.masks.mask(width)

    def end_round(self, number: int, reports: Mapping[int, ParticipantReport], *, averaged: Iterable[int]) -> None:
        """Let what the participants have sent besides their updates count; a collective operation.

        Args:
            number: The round.
            reports: On everybody who trained, the same in all processes.
            averaged: Whose updates were averaged, the same in all processes.
        """
        self._placement.note({index: report.seconds for index, report in reports.items()})
        self._corrector.reduce(self._run.topology)
        if self._run.config.participants_remember:
            self._states.note(averaged, number)

    def sync(self) -> None:
        """Wait until what participants remember is on disk, in all processes; a collective operation."""
        if self._run.config.participants_remember:
            self._states.sync()
            self._run.fabric.barrier()

    def prune(self, oldest: int) -> None:
        """Delete what only checkpoints of rounds before this one need."""
        self._states.prune(oldest)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"correction": self._corrector.state_dict(), "memory": self._states.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._corrector.load_state_dict(state["correction"])
        self._states.load_state_dict(state["memory"])

    def _train_stack(self, number: int, stack: Sequence[int]) -> tuple[list[float], Tensor]:
        run = self._run
        received, grid = self._hand_out(stack)
        jobs = [Job(*run.participant(index), run.work(index), keys=self._keys(number, index)) for index in stack]
        losses, updates = self._stacked.train(received, jobs, grid=grid, distillation=run.distillation)
        width = run.widths[stack[0]]
        for index, update, start in zip(stack, updates, received, strict=True):
            if run.cheating.involves(index):
                sent = run.cheating.send(index, update, received=start, round=number)
                update.copy_(sent if width == 1 else sent * run.masks.mask(width))
        return losses, updates

    def _keys(self, number: int, index: int) -> tuple[int | str, ...]:
        """Return what decides everything random in a participant's work of a round, together with the seed."""
        return ("round", number, "participant", self._run.cheating.trains_as(index))

    def _accept(self, number: int, stack: Sequence[int], losses: Sequence[float], updates: Tensor) -> list[bool]:
        """Take in what participants have sent and let them remember, unless that would poison the average."""
        run, variate = self._run, self._corrector.end()
        also = variate is None or acceptable(variate[None])[0]
        sound = [ok and also and math.isfinite(loss) for ok, loss in zip(acceptable(updates), losses, strict=True)]
        places = [place for place, ok in enumerate(sound) if ok]
        if not places:
            return sound
        sent = updates if all(sound) else updates[places]
        if run.private_average is not None:
            sent = torch.stack([run.private_average.clip(update) for update in sent])
        run.server.receive([stack[place] for place in places], sent)
        # What follows is for those who train alone: whoever has gradients corrected or a memory is not stacked.
        self._corrector.accept()
        if run.config.participants_remember and run.topology.replica == 0:
            kept = run.local.optimizer_state() if run.config.participant_state == "keep" else None
            self._states.save(stack[0], number, {"optimizer": kept, "variate": variate})
        return sound

    def _hand_out(self, stack: Sequence[int]) -> tuple[Tensor, tuple[float, ...]]:
        """Hand participants of one width what they hold, zero elsewhere.

        Returns:
            It, of shape (participants, P), not to be written to; and the widths to train.
        """
        run = self._run
        width, grid = run.widths[stack[0]], run.grid
        received = run.parameters.expand(len(stack), -1) if run.models is None else run.models[list(stack)]
        if width < 1:
            received = received * run.masks.mask(width)
            grid = (width, *(other for other in grid if other < width))
        for index, parameters in zip(stack, received, strict=True):
            self._callbacks.call("on_participant_start", run, index, parameters)
        return received, grid
