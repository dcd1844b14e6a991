import torch

from aequa_lightning.collaboration.seeding import seed_global_generators


def test_draws_what_manual_seed_draws_and_leaves_no_trace() -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    # Where torch could use CUDA and does not, torch.manual_seed puts a call down for later: never to be freed.
    before = len(torch.cuda._queued_calls)
    seed_global_generators(3, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    assert len(torch.cuda._queued_calls) == before
