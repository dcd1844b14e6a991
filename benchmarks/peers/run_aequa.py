"""This project's engine as a bare simulator: rounds of federated averaging, without rewards."""

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import TensorDataset

from aequa_lightning import backbones
from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.callback import CollaborationCallback
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local import trainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.participation import Cohort, Participation
from aequa_lightning.engine.processes.topology import build_fabric, launch
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.engine.stacking.sizing import decide_stacking
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.modules.classifier import SlimmableClassifier
from benchmarks.peers.workloads import CLASSES, LEARNING_RATE, Run, cohort, make_data


class WorkloadData(CollaborativeData):
    def __init__(self, work):
        super().__init__(participants=work.clients, batch_size=work.batch)
        self.num_classes, self.input_shape = CLASSES, (1, work.side, work.side)
        self.work = work

    def load(self):
        raise NotImplementedError

    def setup(self, stage=None):
        if self._pooled is None:
            inputs, targets = (torch.from_numpy(array).flatten(0, 1) for array in make_data(self.work))
            self._pooled = TensorDataset(inputs, targets)
            self._offsets = range(0, len(targets) + 1, self.work.samples)
            # The other simulators evaluate nothing between rounds; the engine's evaluation gets one sample.
            self._validation = self._test = TensorDataset(inputs[:1], targets[:1])


class Classifier(SlimmableClassifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)


class FixedCohorts(Participation):
    def draw(self, samples, count, *, seed, round):
        return Cohort(cohort(self.work, round - 1))


class Laps(CollaborationCallback):
    def __init__(self, run):
        self.run, self.training = run, []

    def on_round_start(self, run):
        self.training.append(0.0)

    def on_round_end(self, run, result):
        self.run.lap()

    def timed(self, train):
        """Return a training function whose time is added to the round's."""

        def timed_train(*arguments, **options):
            start = time.process_time()
            loss = train(*arguments, **options)
            self.training[-1] += time.process_time() - start
            return loss

        return timed_train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--stacking", default="auto")
    parser.add_argument("--layout", choices=("channels_last", "plain"), default="channels_last")
    options, sys.argv[1:] = parser.parse_known_args()
    if options.layout == "plain":
        # The loop's arithmetic: what is left is what the engine adds to it.
        trainer.channels_last = lambda inputs: inputs
        backbones.pool_first = lambda network: network
    run = Run()
    FixedCohorts.work = run.work
    data = WorkloadData(run.work)
    model = Classifier(CLASSES, data.input_shape, backbone="benchmarks.peers.workloads:build_network", widths=[1.0])
    with TemporaryDirectory() as folder:
        fabric = build_fabric(
            accelerator="cpu",
            devices=options.devices,
            num_nodes=1,
            precision=options.precision,
            replicas=1,
            loggers=[],
            timeout=timedelta(minutes=5),
            run_dir=Path(folder),
        )
        config = RunConfig(
            max_rounds=run.count,
            work=LocalWork(shuffle=False),
            participants_per_round=run.work.cohort,
            aggregator=FedAvg(),
            checkpoint_every=run.count,
            seed=0,
            run_dir=Path(folder),
            mechanism=Aequa(),
            participation=FixedCohorts(),
            stacking=int(options.stacking) if options.stacking.isdigit() else options.stacking,
        )

        def work(fabric):
            laps = Laps(run)
            collaboration = Collaboration(fabric, model, data, config=config, callbacks=[laps])
            collaboration.run.progress.stacking = decide_stacking(collaboration.run, [])
            collaboration.run.local.train = laps.timed(collaboration.run.local.train)
            run.start()
            # Rounds alone: nobody is paid, so nobody has to be trained alone first.
            collaboration.train_rounds()
            if fabric.global_rank == 0:
                print(collaboration.run.stacking)
                run.finish([collaboration.run.parameters.numpy()], training=laps.training)

        launch(fabric, work, threads=1, run_dir=Path(folder))


if __name__ == "__main__":
    main()
