"""The baseline: federated averaging written out by hand in plain PyTorch, in one process."""

import torch
from torch.nn import functional

from benchmarks.peers.workloads import LEARNING_RATE, Run, build_network, cohort, make_data


def main() -> None:
    torch.set_num_threads(1)
    run = Run()
    work = run.work
    inputs, targets = (torch.from_numpy(array) for array in make_data(work))
    network = build_network(input_shape=inputs.shape[2:])
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    parameters = list(network.parameters())
    server = [parameter.detach().clone() for parameter in parameters]
    for number in run.rounds():
        chosen = cohort(work, number)
        total = [torch.zeros_like(value) for value in server]
        for index in chosen:
            with torch.no_grad():
                for parameter, value in zip(parameters, server, strict=True):
                    parameter.copy_(value)
            for x, y in zip(inputs[index].split(work.batch), targets[index].split(work.batch), strict=True):
                optimizer.zero_grad()
                functional.cross_entropy(network(x), y).backward()
                optimizer.step()
            with torch.no_grad():
                for value, parameter in zip(total, parameters, strict=True):
                    value += parameter
        server = [value / len(chosen) for value in total]
    run.finish([value.numpy() for value in server])


if __name__ == "__main__":
    main()
