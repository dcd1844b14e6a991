import json

import pytest
import torch

from aequa_lightning.contributions import CosineReputation, cosines
from aequa_lightning.errors import InputError


@pytest.mark.parametrize("seed", range(5))
def test_cosines_from_inner_products_are_those_of_torch(seed):
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(7, 40, generator=generator, dtype=torch.float64)
    aggregate = torch.rand(7, generator=generator, dtype=torch.float64) @ updates
    expected = torch.nn.functional.cosine_similarity(updates, aggregate[None], dim=1)
    found = cosines(updates @ aggregate, updates.square().sum(dim=1), aggregate @ aggregate)
    assert torch.allclose(found, expected, atol=1e-12)


def test_cosines_do_not_depend_on_lengths_and_are_0_without_one():
    squares, aggregate = torch.tensor([5.0, 5e-6, 0.0]), torch.tensor(1.0)
    found = cosines(torch.tensor([1.0, 1e-3, 0.0]), squares, aggregate)
    assert found[0].item() == pytest.approx(found[1].item())
    assert found[2] == 0
    assert (cosines(torch.zeros(3), squares, torch.tensor(0.0)) == 0).all()


def test_cosine_reputation_refuses_bad_input():
    with pytest.raises(InputError, match="decay"):
        CosineReputation(3, decay=1.0)
    with pytest.raises(InputError, match="2 participants"):
        CosineReputation(3).update(torch.ones(3), participants=[0, 1])


def test_cosine_reputation_follows_its_recurrence_and_survives_a_restart():
    reputation = CosineReputation(3, decay=0.9)
    expected = torch.zeros(3, dtype=torch.float64)
    for scores in torch.tensor([[0.9, 0.1, -0.5], [0.8, 0.2, -0.9], [0.7, 0.6, 0.9]], dtype=torch.float64):
        expected = (0.9 * expected + 0.1 * scores).clamp(min=1e-3)
        expected = expected / expected.sum()
        restarted = CosineReputation(3)
        restarted.load_state_dict(json.loads(json.dumps(reputation.state_dict())))
        values = reputation.update(scores)
        assert torch.allclose(values, expected, atol=1e-15)
        assert torch.equal(restarted.update(scores), values)
        reputation = restarted
    assert expected.sum().item() == pytest.approx(1.0)


def test_cosine_reputation_of_absent_participants_stays_relative_to_each_other():
    reputation = CosineReputation(3, decay=0.5)
    before = reputation.update(torch.tensor([0.6, 0.3, 0.9]))
    after = reputation.update(torch.tensor([0.1]), participants=[2])
    assert (after[0] / after[1]).item() == pytest.approx((before[0] / before[1]).item())
    assert after[2] < before[2]
