"""Thousands of participants in one process: memory, its growth over the rounds, and seconds of a round.

Usage: python -m benchmarks.population [--rounds N]

A hundred participants a round, of 1,000 and of 10,000, each with twenty digits, in one process. First nobody keeps
anything between rounds; then everybody keeps a momentum and a control variate, on disk. The memory is what the process
holds after the last round, beyond what it held before the run was built; its gain is the slope of a line through the
second half of the rounds. It settles after 100 rounds, or 300 where states are kept. Nobody is trained alone first
(`trainer.standalone: false`); everybody is paid.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from torch.utils.data import TensorDataset

from aequa_lightning.callbacks import Rewards
from aequa_lightning.data import DigitsData
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import NoCorrection, Scaffold
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.engine.processes.topology import build_fabric, launch
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.mechanisms import SharedModel
from aequa_lightning.modules.classifier import SlimmableClassifier

PER_ROUND, SAMPLES = 100, 20
POPULATIONS = (1_000, 10_000)


class Population(DigitsData):
    """Participants who draw their digits whenever they are asked for them, so that data take no room of their own."""

    def __init__(self, people: int) -> None:
        super().__init__(participants=1, batch_size=10)
        self.setup()
        self.participants = people
        self.names = tuple(f"participant-{number:05d}" for number in range(people))

    def participant(self, number: int) -> TensorDataset:
        """Return a participant's digits, always the same."""
        inputs, targets = self.pooled().tensors
        rows = torch.randperm(len(targets), generator=derive_generator(0, "digits", number))[:SAMPLES]
        return TensorDataset(inputs[rows], targets[rows])


class Meter(CollaborationCallback):
    """Notes the time and the memory at the end of every round."""

    def __init__(self) -> None:
        self.times, self.megabytes = [time.perf_counter()], [resident()]

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        """Take note."""
        self.times.append(time.perf_counter())
        self.megabytes.append(resident())


def resident() -> float:
    """Return the megabytes that this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(people: int, rounds: int, keep: bool) -> tuple[float, float, float]:
    """Return megabytes, milliseconds of a round, and megabytes that 100 rounds add."""
    torch.manual_seed(0)
    data, model = Population(people), SlimmableClassifier(10, (1, 8, 8), backbone="mlp", widths=[1.0])
    mechanism = SharedModel(contribution="data_share")
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            max_rounds=rounds,
            work=LocalWork(),
            participants_per_round=PER_ROUND,
            aggregator=FedAvg(),
            checkpoint_every=20,
            seed=0,
            run_dir=Path(folder),
            mechanism=mechanism,
            standalone=False,
            correction=Scaffold() if keep else NoCorrection(),
            participant_state="keep" if keep else "reset",
        )
        fabric = build_fabric(
            accelerator="cpu",
            devices=1,
            num_nodes=1,
            precision="32-true",
            replicas=1,
            loggers=[],
            timeout=timedelta(minutes=1),
            run_dir=config.run_dir,
        )
        rewards, meter = Rewards(mechanism, export_programs=False), Meter()

        def work(fabric: Fabric) -> None:
            Collaboration(fabric, model, data, config=config, callbacks=[rewards, meter]).fit()

        launch(fabric, work, threads=1, run_dir=config.run_dir, timeout=timedelta(minutes=1))
    half = len(meter.times) // 2
    slope = np.polyfit(np.arange(len(meter.times))[half:], meter.megabytes[half:], 1)[0]
    seconds = statistics.median(np.diff(meter.times)[1:])
    return meter.megabytes[-1] - meter.megabytes[0], 1e3 * seconds, 100 * float(slope)


def main(rounds: int) -> None:
    """Measure every case in a process of its own and print a table."""
    print(f"{rounds} rounds of {PER_ROUND} participants, one process, one thread")
    print(f"{'between rounds':16} {'participants':>12} {'memory MB':>10} {'ms a round':>11} {'MB in 100 rounds':>17}")
    for keep in (False, True):
        found = []
        for people in POPULATIONS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                found.append(alone.submit(measure, people, rounds, keep).result())
            megabytes, milliseconds, gain = found[-1]
            name = "kept on disk" if keep else "nothing kept"
            print(f"{name:16} {people:12,} {megabytes:10.1f} {milliseconds:11.1f} {gain:17.2f}", flush=True)
        (few, _, _), (many, _, _) = found
        print(f"ten times the participants take {many / few:.2f} times the memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400)
    main(parser.parse_args().rounds)
