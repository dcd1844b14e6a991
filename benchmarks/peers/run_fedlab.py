"""FedLab 1.3 (Zeng et al. 2023): one model, clients in turn, flat parameter vectors, one process."""

import logging

import torch
from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.contrib.algorithm.basic_server import SyncServerHandler
from fedlab.core.standalone import StandalonePipeline
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.workloads import LEARNING_RATE, Run, build_network, cohort, make_data


class Clients:
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def get_dataloader(self, index, batch_size):
        return DataLoader(TensorDataset(self.inputs[index], self.targets[index]), batch_size=batch_size)


class Server(SyncServerHandler):
    def __init__(self, model, work, rounds):
        super().__init__(model, rounds, work.cohort / work.clients, logger=logging.getLogger())
        self.work = work

    @property
    def num_clients_per_round(self):
        return self.work.cohort

    def sample_clients(self):
        return cohort(self.work, self.round)


class Pipeline(StandalonePipeline):
    def evaluate(self):
        self.run.lap()


def main() -> None:
    torch.set_num_threads(1)
    run = Run()
    work = run.work
    inputs, targets = (torch.from_numpy(array) for array in make_data(work))
    network = build_network(input_shape=inputs.shape[2:])
    trainer = SGDSerialClientTrainer(network, work.clients, logger=logging.getLogger())
    trainer.setup_dataset(Clients(inputs, targets))
    trainer.setup_optim(1, work.batch, LEARNING_RATE)
    server = Server(network, work, run.count)
    pipeline = Pipeline(server, trainer)
    pipeline.run = run
    run.start()
    pipeline.main()
    run.finish([value.detach().numpy() for value in server.model.parameters()])


if __name__ == "__main__":
    main()
