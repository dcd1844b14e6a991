import pytest
import torch

from aequa_lightning.contributions import cosines, examine, merge_clones, share_within
from aequa_lightning.contributions.novelty import new_parts
from aequa_lightning.errors import InputError


@pytest.fixture
def honest():
    """Ten updates that share a direction, as those of honest participants do, and differ otherwise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, generator=generator) + torch.randn(10, 200, generator=generator)


def test_honest_updates_pass(honest):
    new = new_parts(honest, honest.mean(dim=0)[None]).square().sum(dim=1) / honest.square().sum(dim=1)
    gates = examine(honest @ honest.T, new)
    assert gates.remarks() == [""] * 10
    assert gates.group == tuple(range(10))


def test_every_kind_of_misuse_is_found(honest):
    last_aggregate = torch.randn(200, generator=torch.Generator().manual_seed(1)) * 3
    planted = honest.clone()
    planted[1] = 0
    planted[2] = float("nan")
    planted[3] = last_aggregate * 0.7
    planted[4] = 10 * honest[4]
    planted[5] = 0.5 * honest[6]
    planted[7] = 1e-6 * honest[7]
    new = new_parts(planted, last_aggregate[None]).square().sum(dim=1) / planted.square().sum(dim=1)
    gates = examine(planted @ planted.T, new)
    assert gates.remarks() == ["", "null", "non_finite", "replay", "scaled", "clone of 6", "clone of 5", "null", "", ""]


def test_a_long_update_with_much_work_behind_it_is_not_scaled(honest):
    longer = honest.clone()
    longer[[0, 1]] *= 8
    work = torch.ones(10)
    work[0] = 16
    assert examine(longer @ longer.T, work=work).scaled == (False, True, *[False] * 8)
    assert examine(longer @ longer.T).scaled == (True, True, *[False] * 8)


def test_lengths_are_compared_over_what_is_held(honest):
    narrow = honest.clone()
    narrow[1:, 8:] = 0
    held = torch.tensor([200] + [8] * 9)
    assert examine(narrow @ narrow.T).scaled[0]
    assert not any(examine(narrow @ narrow.T, held=held).scaled)
    narrow[4] *= 10
    assert examine(narrow @ narrow.T, held=held).scaled[4]


def test_of_three_none_is_scaled(honest):
    few = honest[:3].clone()
    few[0] *= 100
    assert not any(examine(few @ few.T).scaled)


def test_an_update_far_shorter_than_the_others_is_null(honest):
    short = honest.clone()
    short[3] *= 0.02
    assert examine(short @ short.T).null == (*[False] * 3, True, *[False] * 6)
    work = torch.ones(10)
    work[3] = 0.02
    assert not any(examine(short @ short.T, work=work).null)
    assert not any(examine(short[2:5] @ short[2:5].T).null)


def test_first_round_has_no_replays(honest):
    assert not any(examine(honest @ honest.T).replay)


def test_no_update_at_all_is_null_for_all():
    gates = examine(torch.zeros(3, 3))
    assert gates.null == (True, True, True)
    assert gates.group == (0, 1, 2)


def test_clones_chain_into_one_identity():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5])
    updates = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert examine(updates @ updates.T).group == (0, 0, 0, 1)


def test_merging_keeps_the_aggregate_and_ends_double_pay(honest):
    weights = torch.rand(10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    group = (0, 1, 2, 2, 3, 4, 4, 4, 5, 6)
    mixing, joint = merge_clones(weights, group)
    players = mixing @ honest.double()
    assert torch.allclose(joint @ players, weights @ honest.double())
    gram = honest.double() @ honest.double().T
    assert torch.allclose(mixing @ gram @ mixing.T, players @ players.T)
    merged = mixing @ gram @ mixing.T
    values = cosines(merged @ joint, merged.diagonal(), joint @ merged @ joint)
    shared = share_within(values, group)
    assert shared.sum().item() == pytest.approx(values.sum().item())
    assert shared[5] == shared[6] == shared[7] == values[4] / 3


def test_identity_without_weight_is_averaged():
    mixing, joint = merge_clones(torch.tensor([1.0, 0.0, 0.0]), (0, 1, 1))
    assert mixing.tolist() == [[1, 0, 0], [0, 0.5, 0.5]]
    assert joint.tolist() == [1, 0]


def test_bad_shapes_are_refused():
    with pytest.raises(InputError, match="not square"):
        examine(torch.zeros(2, 3))
    with pytest.raises(InputError, match="do not fit"):
        examine(torch.zeros(2, 2), torch.zeros(3))
