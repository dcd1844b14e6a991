"""Trains the participants that this process hosts in a round, and passes their updates to the server."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.engine.callback import Callbacks
from aequa_lightning.engine.local.state import ParticipantStates
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.processes.assignment import LoadBalancer
from aequa_lightning.engine.round_results import ParticipantReport
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.exact_sum import are_valid
from aequa_lightning.engine.stacking.schedule import Job
from aequa_lightning.engine.stacking.trainer import StackedTrainer, form_stacks
from aequa_lightning.engine.standalone import train_standalone


class CohortTrainer:
    """Trains participants one by one or in stacks, and passes their valid updates to the server.

    Args:
        run: The run, whose server receives the updates.
        callbacks: Called before and after each participant's training.

    Attributes:
        corrector: The correction of local gradients.
        states: The state that participants keep between rounds.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        self._run, self._callbacks = run, callbacks
        self._load_balancer = LoadBalancer(run.samples)
        self._stacked = StackedTrainer(run.local)
        self.corrector = run.config.correction.build(run.parameters, run.data.participants)
        self.states = ParticipantStates(run.config.run_dir / "participants", run.data.names, deletes=run.is_global_zero)

    def check(self) -> None:
        """Check that the state of each participant is on disk and intact.

        Raises:
            InputError: A file is missing or damaged.
        """
        if self._run.config.keeps_participant_state:
            self.states.check(self._run.topology.rank, self._run.topology.processes)

    def train_alone(self) -> bool:
        """Do the standalone training that is missing; a collective operation.

        Returns:
            False when asked to stop.
        """
        return train_standalone(self._run, self._callbacks)

    def answered(self, cohort: Cohort) -> Cohort:
        """Return the participants of the round that have just been trained; all of them, in these processes.

        Args:
            cohort: The participants that were to be trained.
        """
        return cohort

    def train_all(self, number: int) -> dict[int, ParticipantReport]:
        """Train all participants of a round that this process's group hosts.

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
        for stack in self._load_balancer.assign(stacks, run.topology.groups)[run.topology.group]:
            run.status.note(**run.status_fields(*stack))
            began = time.perf_counter()
            losses = self.train(number, stack)
            seconds = (time.perf_counter() - began) / len(stack)
            for index, loss in zip(stack, losses, strict=True):
                reports[index] = ParticipantReport(loss or 0.0, loss is None, seconds)
                self._callbacks.call("on_participant_end", run, index)
        return reports

    def train(self, number: int, stack: Sequence[int]) -> list[float | None]:
        """Train participants of one width and pass their valid updates to the server.

        Args:
            number: The round.
            stack: The participants; several are trained together as a stack.

        Returns:
            The mean loss of each; None where the update was refused.
        """
        if len(stack) > 1:
            losses, updates = self._train_stack(number, stack)
        else:
            loss, update = self.train_one(number, stack[0])
            losses, updates = [loss], update[None]
        accepted = self._submit(number, stack, losses, updates)
        return [loss if ok else None for loss, ok in zip(losses, accepted, strict=True)]

    def train_one(self, number: int, index: int) -> tuple[float, Tensor]:
        """Train one participant.

        Args:
            number: The round.
            index: The participant.

        Returns:
            Its mean loss and the update that it sends, of shape (P,).
        """
        run = self._run
        (received,), grid = self._start([index])
        kept = self.states.load(index) if run.config.keeps_participant_state else {}
        self.corrector.start(received, kept.get("variate"))
        loss = run.local.train(
            received,
            run.participant(index),
            work=run.work(index),
            keys=self._keys(number, index),
            grid=grid,
            distillation=run.distillation,
            correction=self.corrector,
            optimizer_state=kept.get("optimizer"),
        )
        return loss, self._sent(number, index, run.local.parameters - received, received)

    def _train_stack(self, number: int, stack: Sequence[int]) -> tuple[list[float], Tensor]:
        run = self._run
        received, grid = self._start(stack)
        jobs = [Job(*run.participant(index), run.work(index), keys=self._keys(number, index)) for index in stack]
        losses, updates = self._stacked.train(received, jobs, grid=grid, distillation=run.distillation)
        for index, update, start in zip(stack, updates, received, strict=True):
            if run.adversary_host.is_adversary(index):
                update.copy_(self._sent(number, index, update, start))
        return losses, updates

    def _start(self, stack: Sequence[int]) -> tuple[Tensor, tuple[float, ...]]:
        """Return the parameters that participants of one width start from, and the widths that they train.

        Returns:
            Parameters of shape (participants, P), zero outside of the width, read-only; and the grid of widths.
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

    def _sent(self, number: int, index: int, update: Tensor, received: Tensor) -> Tensor:
        """Return the update that a participant sends: an adversary's own, and zero outside of its width.

        Momentum that an optimizer keeps from a round of a larger width moves entries outside of the present one.
        """
        sent = self._run.adversary_host.send(index, update, received=received, round=number)
        width = self._run.widths[index]
        return sent if width == 1 else sent * self._run.masks.mask(width)

    def _keys(self, number: int, index: int) -> tuple[int | str, ...]:
        """Return the keys that, with the seed, determine the random numbers of a participant's training."""
        return ("round", number, "participant", self._run.adversary_host.trains_as(index))

    def _submit(self, number: int, stack: Sequence[int], losses: Sequence[float], updates: Tensor) -> list[bool]:
        """Pass valid updates to the server, and save the state that their participants keep.

        Returns:
            Whether each update was accepted.
        """
        run, variate = self._run, self.corrector.finish()
        # The control variate of SCAFFOLD; other corrections have none.
        valid_variate = variate is None or are_valid(variate[None])[0]
        accepted = [
            ok and valid_variate and math.isfinite(loss) for ok, loss in zip(are_valid(updates), losses, strict=True)
        ]
        places = [place for place, ok in enumerate(accepted) if ok]
        if not places:
            return accepted
        sent = updates if all(accepted) else updates[places]
        if run.private_average is not None:
            sent = torch.stack([run.private_average.clip(update) for update in sent])
        run.server.receive([stack[place] for place in places], sent)
        # Whoever has gradients corrected or keeps its state is not stacked, so the stack has one member here.
        self.corrector.commit()
        if run.config.keeps_participant_state and run.topology.replica == 0:
            kept = run.local.optimizer_state() if run.config.participant_state == "keep" else None
            self.states.save(stack[0], number, {"optimizer": kept, "variate": variate})
        return accepted

    def end_round(self, number: int, reports: Mapping[int, ParticipantReport], *, averaged: Iterable[int]) -> None:
        """Update training times, the correction's server state and participants' states; a collective operation.

        Args:
            number: The round.
            reports: Reports on all participants of the round, the same in all processes.
            averaged: Participants whose updates were averaged, the same in all processes.
        """
        self._load_balancer.update({index: report.seconds for index, report in reports.items()})
        self.corrector.end_round(self._run.topology)
        if self._run.config.keeps_participant_state:
            self.states.commit(averaged, number)

    def sync(self) -> None:
        """Wait until the participants' states are on disk in all processes; a collective operation."""
        if self._run.config.keeps_participant_state:
            self.states.sync()
            self._run.fabric.barrier()

    def prune(self, oldest: int) -> None:
        """Delete participants' states that only checkpoints of rounds before ``oldest`` refer to."""
        self.states.prune(oldest)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"correction": self.corrector.state_dict(), "states": self.states.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`."""
        self.corrector.load_state_dict(state["correction"])
        self.states.load_state_dict(state["states"])
