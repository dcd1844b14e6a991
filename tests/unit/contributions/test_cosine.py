import json

import pytest
import torch

from aequa_lightning.contributions import CosineReputation, cosines_from_gram, update_cosines
from aequa_lightning.errors import InputError


@pytest.mark.parametrize("seed", range(10))
def test_gram_matrix_gives_the_same_cosines_as_the_updates(seed):
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(7, 40, generator=generator, dtype=torch.float64)
    weights = torch.rand(7, generator=generator, dtype=torch.float64)
    aggregate = weights @ updates
    expected = torch.nn.functional.cosine_similarity(updates, aggregate[None], dim=1)
    assert torch.allclose(update_cosines(updates, aggregate), expected, atol=1e-12)
    assert torch.allclose(cosines_from_gram(updates @ updates.T, weights), expected, atol=1e-12)


def test_scale_of_an_update_does_not_matter_and_null_updates_are_worth_nothing():
    updates = torch.tensor([[1.0, 2.0], [1e-3, 2e-3], [0.0, 0.0]])
    cosines = update_cosines(updates, torch.tensor([1.0, 0.0]))
    assert cosines[0].item() == pytest.approx(cosines[1].item())
    assert cosines[2] == 0
    assert (update_cosines(updates, torch.zeros(2)) == 0).all()
    assert cosines.dtype == torch.float64


def test_updates_that_cancel_out_leave_no_direction():
    updates = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert cosines_from_gram(updates @ updates.T, torch.tensor([0.5, 0.5])).tolist() == [0, 0]


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="do not fit"):
        update_cosines(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(InputError, match="do not fit"):
        cosines_from_gram(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(InputError, match="not finite"):
        update_cosines(torch.tensor([[float("nan"), 1.0]]), torch.ones(2))
    with pytest.raises(InputError, match="decay"):
        CosineReputation(3, decay=1.0)
    with pytest.raises(InputError, match="2 participants"):
        CosineReputation(3).update(torch.ones(3), participants=[0, 1])


def test_reputation_follows_its_recurrence_and_survives_a_restart():
    reputation = CosineReputation(3, decay=0.9)
    expected = torch.zeros(3, dtype=torch.float64)
    for cosines in torch.tensor([[0.9, 0.1, -0.5], [0.8, 0.2, -0.9], [0.7, 0.6, 0.9]], dtype=torch.float64):
        expected = (0.9 * expected + 0.1 * cosines).clamp(min=1e-3)
        expected = expected / expected.sum()
        restarted = CosineReputation(3)
        restarted.load_state_dict(json.loads(json.dumps(reputation.state_dict())))
        values = reputation.update(cosines)
        assert torch.allclose(values, expected, atol=1e-15)
        assert torch.equal(restarted.update(cosines), values)
        reputation = restarted
    assert expected.sum().item() == pytest.approx(1.0)


def test_absent_participants_keep_their_standing_relative_to_each_other():
    reputation = CosineReputation(3, decay=0.5)
    before = reputation.update(torch.tensor([0.6, 0.3, 0.9]))
    after = reputation.update(torch.tensor([0.1]), participants=[2])
    assert (after[0] / after[1]).item() == pytest.approx((before[0] / before[1]).item())
    assert after[2] < before[2]
