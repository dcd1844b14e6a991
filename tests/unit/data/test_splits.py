import numpy as np
import pytest
from scipy import stats

from aequa_lightning.data.splits import dirichlet, homogeneous, label_skew, quantity_imbalance

# Uneven classes in scrambled order: 103, 80, 57 and 40 samples.
LABELS = np.random.default_rng(7).permutation(np.repeat([0, 1, 2, 3], [103, 80, 57, 40]))

SCHEMES = {
    "homogeneous": homogeneous,
    "dirichlet": lambda labels, participants, seed: dirichlet(labels, participants, seed, alpha=0.3),
    "imbalance": lambda labels, participants, seed: quantity_imbalance(labels, participants, seed, share=0.2, owners=3),
    "skew": lambda labels, participants, seed: label_skew(labels, participants, seed, classes=2),
}


def counts(parts, labels=LABELS):
    return np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("participants", [4, 7, 10])
def test_partition_parts_are_sorted_disjoint_and_cover_everything(scheme, participants):
    parts = scheme(LABELS, participants, 3)
    assert len(parts) == participants
    assert all((np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_partition_seed_alone_decides(scheme):
    np.random.seed(0)  # the global generator must not matter
    first = scheme(LABELS, 5, 11)
    np.random.seed(1)
    again, other = scheme(LABELS, 5, 11), scheme(LABELS, 5, 12)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("participants", [1, 3, 10])
def test_partition_homogeneous_parts_differ_by_at_most_one(participants):
    held = counts(homogeneous(LABELS, participants, 0))
    assert np.ptp(held, axis=0).max() <= 1
    assert np.ptp(held.sum(axis=1)) <= 1


def test_partition_dirichlet_shares_follow_the_beta_marginal():
    # The marginal of a symmetric Dirichlet over N is Beta(alpha, (N - 1) alpha); 2,000 samples make rounding small.
    alpha, participants = 0.5, 4
    labels = np.repeat([0, 1], 2000)
    shares = (
        np.array([counts(dirichlet(labels, participants, seed, alpha=alpha), labels) for seed in range(300)]) / 2000
    )
    marginal = stats.beta(alpha, (participants - 1) * alpha)
    for participant in range(participants):  # exchangeable: the same law at every position
        assert stats.kstest(shares[:, participant, 0], marginal.cdf).pvalue > 1e-3
    # A wrong concentration is told apart by the same test.
    assert stats.kstest(shares[:, 0, 0], stats.beta(1, participants - 1).cdf).pvalue < 1e-6
    # Classes are independent: the shares of one say nothing about those of the other.
    assert abs(stats.spearmanr(shares[:, 0, 0], shares[:, 0, 1]).statistic) < 0.15


def test_partition_dirichlet_grows_even_with_alpha():
    spreads = [np.ptp(counts(dirichlet(LABELS, 5, 0, alpha=alpha)) / 280) for alpha in (0.05, 1, 1e6)]
    assert spreads[0] > spreads[1] > spreads[2]
    expected = np.array([103, 80, 57, 40]) / 5
    assert np.abs(counts(dirichlet(LABELS, 5, 0, alpha=1e8)) - expected).max() <= 1


def test_partition_dirichlet_draws_again_until_everybody_holds_enough():
    once = dirichlet(LABELS, 5, 0, alpha=0.1)
    enough = dirichlet(LABELS, 5, 0, alpha=0.1, min_samples=20)
    assert min(map(len, once)) < 20 <= min(map(len, enough))


@pytest.mark.parametrize(
    ("share", "owners", "owner_counts"),
    [(0.15, 6, [15, 30]), (0.4, 2, [40, 80])],
)
def test_partition_quantity_imbalance_by_hand(share, owners, owner_counts):
    # 100 and 200 samples, ten participants: the paper's two settings leave a tenth and a fifth to the others.
    labels = np.repeat([0, 1], [100, 200])
    held = counts(quantity_imbalance(labels, 10, 0, share=share, owners=owners), labels)
    assert (held[:owners] == owner_counts).all()
    rest = held[owners:]
    assert rest.sum(axis=0).tolist() == [100 - owners * owner_counts[0], 200 - owners * owner_counts[1]]
    assert np.ptp(rest, axis=0).max() <= 1
    assert np.ptp(rest.sum(axis=1)) <= 1


@pytest.mark.parametrize(("participants", "classes"), [(2, 2), (3, 2), (4, 1), (4, 4), (9, 1), (10, 3)])
def test_partition_label_skew_holders(participants, classes):
    for seed in range(20):
        held = counts(label_skew(LABELS, participants, seed, classes=classes))
        assert ((held > 0).sum(axis=1) == classes).all()
        assert (held.sum(axis=0) == [103, 80, 57, 40]).all()
        for column in held.T:
            assert np.ptp(column[column > 0]) <= 1


def test_partition_label_skew_covers_every_class_where_it_only_just_can():
    labels = np.arange(700) % 7
    held = counts(label_skew(labels, 3, 5, classes=3), labels)
    assert ((held > 0).sum(axis=1) == 3).all()
    assert (held.sum(axis=0) == 100).all()


def test_partition_label_skew_pairs_classes_at_random():
    # Over many seeds each of two classes out of four is held together equally often (6 pairs, chi-square).
    pairs = np.zeros((4, 4), dtype=int)
    for seed in range(600):
        first, second = np.flatnonzero(counts(label_skew(LABELS, 4, seed, classes=2))[0])
        pairs[first, second] += 1
    assert stats.chisquare(pairs[np.triu_indices(4, 1)]).pvalue > 1e-3
