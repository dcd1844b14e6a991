"""fluke 0.8 (Polato et al. 2024): client objects in turn, models handed over as messages, one process."""

import torch
from fluke import FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import FastDataLoader
from fluke.server import Server
from fluke.utils import FederationObserver

from benchmarks.peers.workloads import CLASSES, LEARNING_RATE, Run, build_network, cohort, make_data


class Splitter:
    """Hands out the workload's data as they are."""

    def __init__(self, work, inputs, targets):
        self.work, self.inputs, self.targets = work, inputs, targets

    def assign(self, n_clients, batch_size):
        loaders = [
            FastDataLoader(x, y, num_labels=CLASSES, batch_size=batch_size, shuffle=False)
            for x, y in zip(self.inputs, self.targets, strict=True)
        ]
        return (loaders, [None] * n_clients), None


class FixedCohorts(Server):
    def get_eligible_clients(self, eligible_perc):
        chosen = [self.clients[index] for index in cohort(self.work, self.number)]
        self.number += 1
        return chosen


class Algorithm(FedAVG):
    def get_server_class(self):
        return FixedCohorts

    def finalize(self):
        FlukeENV().close_cache()


class Laps(FederationObserver):
    def __init__(self, run):
        self.run = run

    def end_round(self, round):
        self.run.lap()


def main() -> None:
    torch.set_num_threads(1)
    run = Run()
    work = run.work
    inputs, targets = (torch.from_numpy(array) for array in make_data(work))
    environment = FlukeENV()
    environment.set_device("cpu")
    environment.set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=False)
    algorithm = Algorithm(
        work.clients,
        Splitter(work, inputs, targets),
        {
            "client": {
                "batch_size": work.batch,
                "local_epochs": 1,
                "loss": torch.nn.CrossEntropyLoss,
                "optimizer": {"name": torch.optim.SGD, "lr": LEARNING_RATE},
                "scheduler": {"name": "StepLR", "step_size": 1, "gamma": 1},
                # Nothing is kept between rounds, as with all other peers.
                "persistency": False,
            },
            "server": {"weighted": True},
            "model": build_network(input_shape=inputs.shape[2:]),
        },
    )
    algorithm.server.work, algorithm.server.number = work, 0
    algorithm.set_callbacks(Laps(run))
    run.start()
    algorithm.run(run.count, work.cohort / work.clients)
    run.finish([value.detach().numpy() for value in algorithm.server.model.parameters()])


if __name__ == "__main__":
    main()
