"""pfl-research 0.6 (Granqvist et al. 2024): one model a process, users in turn, one reduction a round."""

import itertools

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch.nn import functional

from benchmarks.peers.workloads import LEARNING_RATE, Run, build_network, cohort, make_data


class Network(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def loss(self, x, y):
        return functional.cross_entropy(self.layers(x), y)

    def metrics(self, x, y):
        return {"loss": Weighted(self.loss(x, y).item() * len(y), len(y))}


class Laps(TrainingProcessCallback):
    def __init__(self, run):
        self.run = run

    def on_train_begin(self, *, model):
        self.run.start()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.run.lap()
        return False, Metrics()


def main() -> None:
    torch.set_num_threads(1)
    run = Run()
    work = run.work
    inputs, targets = (torch.from_numpy(array) for array in make_data(work))
    layers = build_network(input_shape=inputs.shape[2:])
    network = Network(layers)
    model = PyTorchModel(
        network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    )
    order = itertools.chain.from_iterable(cohort(work, number) for number in itertools.count())
    users = FederatedDataset(
        lambda user: PyTorchTensorDataset((inputs[user], targets[user]), user_id=str(user)), lambda: next(order)
    )
    laps = Laps(run)
    FederatedAveraging().run(
        # Evaluated once, before the first round, which is not counted.
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=run.count,
            evaluation_frequency=run.count + 1,
            train_cohort_size=work.cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=users, val_data=users),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=work.batch, local_num_epochs=1, local_learning_rate=LEARNING_RATE
        ),
        callbacks=[laps],
        send_metrics_to_platform=False,
    )
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        run.finish([value.detach().numpy() for value in layers.parameters()])
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
