"""Flower 1.41 (Beutel et al. 2020): messages to client apps in two Ray actors."""

from functools import lru_cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional

from benchmarks.peers.workloads import LEARNING_RATE, WORKLOADS, Run, build_network, cohort, make_data

client_app = ClientApp()


@lru_cache(maxsize=1)
def state_of(name: str):
    """Return data and network of a workload, made once in every actor."""
    torch.set_num_threads(1)
    inputs, targets = (torch.from_numpy(array) for array in make_data(WORKLOADS[name]))
    network = build_network(input_shape=inputs.shape[2:])
    return inputs, targets, network, torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    work, index = WORKLOADS[config["workload"]], config["participant"]
    inputs, targets, network, optimizer = state_of(config["workload"])
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    for x, y in zip(inputs[index].split(work.batch), targets[index].split(work.batch), strict=True):
        optimizer.zero_grad()
        functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    content = {
        "arrays": ArrayRecord(network.state_dict()),
        "metrics": MetricRecord({"num-examples": len(targets[index])}),
    }
    return Message(content=RecordDict(content), reply_to=message)


class FixedCohorts(FedAvg):
    """FedAvg over the workload's participants; nodes have other names in every run, so they are told who they are."""

    def __init__(self, run):
        super().__init__(fraction_evaluate=0.0)
        self.run = run

    def configure_train(self, server_round, arrays, config, grid):
        chosen = cohort(self.run.work, server_round - 1)
        nodes = sorted(grid.get_node_ids())[: len(chosen)]
        for node, index in zip(nodes, chosen, strict=True):
            own = ConfigRecord({"participant": index, "workload": self.run.name})
            content = RecordDict({"arrays": arrays, "config": own})
            yield Message(content=content, message_type=MessageType.TRAIN, dst_node_id=node)


def main() -> None:
    run = Run()
    final = []
    server_app = ServerApp()

    @server_app.main()
    def serve(grid, context):
        network = build_network(input_shape=(1, run.work.side, run.work.side))
        result = FixedCohorts(run).start(
            grid,
            ArrayRecord(network.state_dict()),
            num_rounds=run.count,
            # Called before the first round, and after each.
            evaluate_fn=lambda number, arrays: run.lap() if number else run.start(),
        )
        final.extend(value.numpy() for value in result.arrays.to_torch_state_dict().values())

    # Imported by name, so that the actors import it too instead of receiving a copy of this script.
    from benchmarks.peers.run_flower import client_app as importable

    run_simulation(
        server_app,
        importable,
        num_supernodes=run.work.clients,
        backend_config={"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    run.finish(final)


if __name__ == "__main__":
    main()
