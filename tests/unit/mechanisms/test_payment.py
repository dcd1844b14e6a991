"""Each rival's means of payment against the formula or the behaviour that its source states."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import CFFL, CGSV, IAFL, FedAVE, FedRAC, FineTuning, LGFedAvg
from aequa_lightning.mechanisms.payment import (
    Downloading,
    LastLayers,
    Layer,
    Masking,
    Mixing,
    Neurons,
    OwnAndMasked,
    OwnModel,
    Ranked,
    RoundContext,
    ServerModel,
    SubsetAveraging,
    largest,
    subsets,
)
from aequa_lightning.mechanisms.targets import Surviving, Tanh


def context(shares: list[float], contributions: list[float] | None = None, **changes: object) -> RoundContext:
    count = len(shares)
    fields: dict[str, object] = {
        "round": 1,
        "seeds": range(count),
        "weights": torch.full((count,), 1 / count, dtype=torch.float64),
        "contributions": torch.tensor(contributions or shares, dtype=torch.float64),
        "shares": torch.tensor(shares, dtype=torch.float64),
        "norms": torch.ones(count, dtype=torch.float64),
        "previous": torch.tensor(contributions or shares, dtype=torch.float64),
    }
    return RoundContext(**(fields | changes))  # type: ignore[arg-type]


def layer(models: list[list[float]], updates: list[list[float]], server: list[float], **changes: object) -> Layer:
    fields: dict[str, object] = {
        "name": "layer.weight",
        "place": 1,
        "shape": (len(server),),
        "models": torch.tensor(models),
        "updates": torch.tensor(updates),
        "server": torch.tensor(server),
    }
    return Layer(**(fields | changes))  # type: ignore[arg-type]


TWO = layer([[0.0, 0.0], [10.0, 10.0]], [[3.0, 4.0], [0.0, -2.0]], [1.5, 1.0])


def test_cgsv_on_two_parameters() -> None:
    # Scaled to length .5 the updates are (.3, .4) and (0, -.5); by reputations 3/4 and 1/4 their sum is (.225, .175).
    norms = torch.tensor([5.0, 2.0], dtype=torch.float64)
    means, reputations = Masking(length=0.5, weighing="contributions"), [0.75, 0.25]
    delivered = means.deliver(TWO, context([1.0, 0.5], reputations, norms=norms))
    torch.testing.assert_close(delivered, torch.tensor([[0.225, 0.175], [10.225, 10.0]]))
    # Those of this round decide how much is kept, those before it how much an update weighs.
    earlier = torch.tensor([0.5, 0.5], dtype=torch.float64)
    delivered = means.deliver(TWO, context([1.0, 0.5], reputations, norms=norms, previous=earlier))
    torch.testing.assert_close(delivered, torch.tensor([[0.15, -0.05], [10.15, 10.0]]))
    # In the first round there is none before, and the weights of the average count.
    weights = torch.tensor([0.9, 0.1], dtype=torch.float64)
    delivered = means.deliver(TWO, context([1.0, 0.5], norms=norms, previous=torch.zeros(2), weights=weights))
    torch.testing.assert_close(delivered, torch.tensor([[0.27, 0.31], [10.0, 10.31]]))


def test_the_top_contributor_of_cgsv_takes_the_whole_aggregate() -> None:
    reputations = [0.1, 0.6, 0.3]
    shares = Tanh(beta=2.0).shares(reputations, round=1, likeness=[1.0] * 3)
    np.testing.assert_allclose(shares, np.tanh([0.2, 1.2, 0.6]) / np.tanh(1.2))
    aggregate = torch.randn(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(largest(aggregate, shares.tolist())[1], aggregate)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.31, 0.5, 1.0])
def test_masks_keep_what_topk_keeps(share: float) -> None:
    values = torch.randn(37, generator=torch.Generator().manual_seed(1))
    kept = largest(values, [share])[0]
    expected = torch.zeros(37)
    places = values.abs().topk(int(np.ceil(share * 37))).indices
    expected[places] = values[places]
    assert torch.equal(kept, expected)


def test_rffl_keeps_the_shortened_own_step_and_adds_the_masked_aggregate() -> None:
    # Of lengths 5 and 2 the first is shortened to 4: (2.4, 3.2). By reputations 3/4 and 1/4 the sum is (1.8, 1.9).
    norms = torch.tensor([5.0, 2.0], dtype=torch.float64)
    delivered = OwnAndMasked(length=4.0).deliver(TWO, context([1.0, 0.5], [0.75, 0.25], norms=norms))
    torch.testing.assert_close(delivered, torch.tensor([[4.2, 5.1], [10.0, 9.9]]))
    # Whoever was removed trains on alone.
    alone = OwnAndMasked(length=4.0).deliver(TWO, context([1.0, 0.0], [1.0, 0.0], norms=norms))
    torch.testing.assert_close(alone, torch.tensor([[4.8, 6.4], [10.0, 8.0]]))


def test_cffl_downloads_the_largest_of_the_whole_network_by_reputation_and_data() -> None:
    other = layer([[0.0], [0.0]], [[1.0], [1.0]], [0.0])
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    means, here = Downloading(clip=2.0), context([1.0, 1.0], weights=weights)
    # Cut to 2 the updates are (2, 2 | 1) and (0, -2 | 1); by data their mean is (1.5, 1 | 1).
    step = torch.cat([means.step(part, here) for part in (TWO, other)])
    assert step.tolist() == [1.5, 1.0, 1.0]
    # The first downloads all, the second a third of it, and gives back a third of its own.
    cutoffs = means.cutoffs(step, here)
    assert cutoffs.tolist() == [1.0, 1.5]
    here = replace(here, cutoffs=cutoffs)
    torch.testing.assert_close(means.deliver(TWO, here), torch.tensor([[1.5, 1.0], [11.5, 10 - 4 / 3]]))
    torch.testing.assert_close(means.deliver(other, here), torch.tensor([[1.0], [2 / 3]]))
    # Whoever was dropped is neither averaged nor sent anything.
    here = context([1.0, 0.0], weights=weights)
    here = replace(here, cutoffs=means.cutoffs(means.step(TWO, here), here))
    torch.testing.assert_close(means.deliver(TWO, here), torch.tensor([[1.5, 1.5], [10.0, 8.0]]))


def test_fedave_delivers_nothing_in_the_first_round_and_scales_shares_by_likeness() -> None:
    target, means = FedAVE(beta=3.0).parts()
    assert torch.equal(means.deliver(TWO, context([1.0, 1.0])), TWO.models)
    assert not torch.equal(means.deliver(TWO, context([1.0, 1.0], round=2)), TWO.models)
    shares = target.shares([0.75, 0.25], round=2, likeness=[0.5, 1.0])
    np.testing.assert_allclose(shares, [0.5, np.tanh(0.75) / np.tanh(2.25)])


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_iafl_averages_as_many_others_as_the_source_says(kappa: float) -> None:
    shares = [1.0, 0.75, 0.3, 0.0, 1 / 3]
    for seed in range(50):
        mixing, reset = subsets(context(shares, seeds=range(seed, seed + 5)), kappa=kappa, reset=0.0)
        others = [int(np.ceil(round(share ** (1 - kappa) * 4, 9))) for share in shares]
        assert ((mixing > 0).sum(axis=1) - 1).tolist() == others
        np.testing.assert_allclose(mixing.sum(axis=1), 1)
        assert (np.diag(mixing) > 0).all()
        assert not reset.any()


def test_iafl_draws_all_others_alike_and_resets_as_often_as_told() -> None:
    seen, resets = Counter[int](), 0
    for seed in range(2000):
        mixing, reset = subsets(context([0.25, 1.0, 1.0, 1.0, 1.0], seeds=range(seed, seed + 5)), kappa=0.0, reset=0.3)
        seen.update(np.flatnonzero(mixing[0][1:]) + 1)
        resets += int(reset[0])
    assert sum(seen.values()) == 2000
    # Four standard deviations of a binomial count.
    assert all(abs(count - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75) for count in seen.values())
    assert abs(resets - 600) < 4 * np.sqrt(2000 * 0.3 * 0.7)


def test_iafl_with_everybody_is_federated_averaging() -> None:
    same = layer([[1.0, 1.0]] * 2, [[3.0, 4.0], [0.0, -2.0]], [0.0, 0.0])
    delivered = SubsetAveraging().deliver(same, context([1.0, 1.0]))
    torch.testing.assert_close(delivered, torch.tensor([[2.5, 2.0]] * 2))
    certain = SubsetAveraging(reset=1.0)
    assert torch.equal(certain.deliver(same, context([1.0, 1.0])), torch.zeros(2, 2))
    # The source resets before a round, so that nobody is paid with the server's model.
    torch.testing.assert_close(certain.deliver(same, context([1.0, 1.0], is_last=True)), delivered)


def test_rank_is_the_mean_of_those_at_or_below() -> None:
    random = np.random.default_rng(0)
    contributions = [0.3, 0.1, 0.3, 0.9]
    models, updates = random.normal(size=(2, 4, 3))
    delivered = Ranked().deliver(layer(models.tolist(), updates.tolist(), [0.0] * 3), context([1.0] * 4, contributions))
    # From the lowest: 1, 0, 2, 3; of the equal ones the later ranks higher.
    for place, below in enumerate(([0, 1], [1], [0, 1, 2], [0, 1, 2, 3])):
        chosen = updates[below]
        np.testing.assert_allclose(delivered[place], models[place] + np.mean(chosen, axis=0), rtol=1e-5)


def test_lg_fedavg_shares_the_last_layers_only() -> None:
    for place, shared in ((0, True), (2, True), (3, False)):
        part = layer([[0.0], [8.0]], [[1.0], [1.0]], [5.0], place=place)
        expected = [[5.0], [5.0]] if shared else [[1.0], [9.0]]
        assert LastLayers(3).deliver(part, context([1.0, 1.0])).tolist() == expected


def test_shapfed_mixes_own_and_average() -> None:
    # Trained models are (3, 4) and (10, 8); by contributions 1 : 3 their average is (8.25, 7).
    delivered = Mixing().deliver(TWO, context([1 / 3, 1.0], [0.2, 0.6]))
    torch.testing.assert_close(delivered, torch.tensor([[3 + 5.25 / 3, 5.0], [8.25, 7.0]]))


def test_own_and_server_s_model() -> None:
    assert OwnModel().deliver(TWO, context([1.0, 1.0])).tolist() == [[3.0, 4.0], [10.0, 8.0]]
    assert ServerModel().deliver(TWO, context([1.0, 1.0])).tolist() == [[1.5, 1.0]] * 2


def neurons(means: Neurons, rows: Tensor, shares: list[float]) -> Tensor:
    """Return which rows come from the server, (N, rows)."""
    count = len(shares)
    own = [[0.0] * rows.numel()] * count
    part = layer(own, own, rows.flatten().tolist(), shape=tuple(rows.shape))
    return means.deliver(part, context(shares)).view(count, *rows.shape).any(dim=-1)


def test_fedsac_hands_out_the_longest_rows_first() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.1, 0.1], [2.0, 2.0]])
    assert neurons(Neurons(), rows, [0.5, 0.25, 1.0, 0.0]).int().tolist() == [
        [0, 1, 0, 1],
        [0, 1, 0, 0],
        [1, 1, 1, 1],
        [0, 0, 0, 0],
    ]


def test_what_is_out_of_range_is_refused() -> None:
    for mechanism, options in (
        (CGSV, {"beta": 0.0}),
        (CGSV, {"length": 0.0}),
        (CFFL, {"clip": 0.0}),
        (CFFL, {"clip": None}),
        (FedRAC, {"contribution": "cosine"}),
        (FedRAC, {"steps": 0}),
        (FedRAC, {"late": 1.0}),
        (FedAVE, {"beta": -1.0}),
        (FedAVE, {"length": 0.0}),
        (IAFL, {"kappa": 1.0}),
        (IAFL, {"reset": 1.5}),
        (LGFedAvg, {"layers": 0}),
        (FineTuning, {"epochs": 0}),
        (Surviving, {"after": -1}),
    ):
        with pytest.raises(InputError):
            mechanism(**options)


def test_without_a_length_updates_count_by_their_weights() -> None:
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    # The mean update is (2.25, 2.5), of which the second has the larger half.
    delivered = Masking().deliver(TWO, context([1.0, 0.5], weights=weights))
    torch.testing.assert_close(delivered, torch.tensor([[2.25, 2.5], [10.0, 12.5]]))


def test_an_update_of_length_zero_adds_nothing() -> None:
    part = layer([[0.0, 0.0]] * 2, [[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0])
    norms = torch.tensor([5.0, 0.0], dtype=torch.float64)
    delivered = Masking(length=0.5).deliver(part, context([1.0, 1.0], norms=norms))
    torch.testing.assert_close(delivered, torch.tensor([[0.15, 0.2]] * 2))


def test_everybody_receives_what_the_output_is_made_of() -> None:
    part = layer([[0.0, 0.0]] * 2, [[3.0, 4.0], [0.0, -2.0]], [1.5, 1.0], place=0)
    assert Neurons().deliver(part, context([1.0, 0.0])).tolist() == [[1.5, 1.0]] * 2
