import random

import numpy as np
import torch

from aequa_lightning.engine.processes.seeding import seed_global_generators


def test_seeding_equals_manual_seed_without_queued_cuda_calls() -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    # Where torch could use CUDA and does not, torch.manual_seed puts a call down for later: never to be freed.
    before = len(torch.cuda._queued_calls)
    seed_global_generators(3, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    assert len(torch.cuda._queued_calls) == before


def test_seeding_includes_numpy_and_python() -> None:
    for seed in (3, 2**63 - 1):
        draws = []
        for _ in range(2):
            seed_global_generators(seed, torch.device("cpu"))
            draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
        assert draws[0] == draws[1]
    seed_global_generators(4, torch.device("cpu"))
    assert random.random() != draws[0][0]
