from typing import Any

import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Aequa, AequaTraining, SharedModel, Slimming
from aequa_lightning.mechanisms.aequa_training import earned_widths
from aequa_lightning.mechanisms.mechanism import held_allocation
from aequa_lightning.mechanisms.targets import Relative, Surviving, Tanh
from aequa_lightning.rewards.allocation.certificate import check_payout

CURVE = {0.25: 0.5, 0.5: 0.7, 0.75: 0.8, 1.0: 0.9}


def test_earned_widths_are_the_widest_no_better_than_deserved_by_brute_force() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        contributions, standalone = random.random((2, 5)).round(2).tolist()
        slope = float(random.random() * 2)
        most = max(CURVE[1.0], *standalone)
        widths, used = earned_widths(contributions, CURVE, slope=slope, standalone=standalone)
        assert used == slope
        for contribution, width in zip(contributions, widths, strict=True):
            deserved = most - slope * (max(contributions) - contribution)
            fitting = [other for other, accuracy in CURVE.items() if accuracy <= deserved + 1e-9]
            assert width == max(fitting, default=0.25)


def test_by_itself_the_slope_lets_the_least_contributor_deserve_the_worst_width() -> None:
    # The least deserves .5 at 0.9 - slope * 0.8.
    widths, slope = earned_widths([0.0, 0.8, 0.4], CURVE, slope="auto", standalone=[0.0] * 3)
    assert slope == pytest.approx(0.5)
    assert widths == [0.25, 1.0, 0.5]
    # Equal gains where they can be reached, and equal pay for equal contributions.
    assert earned_widths([0.7, 0.8], CURVE, slope="auto", standalone=[0.7, 0.8]) == ([0.75, 1.0], 1.0)
    assert earned_widths([0.4, 0.4], CURVE, slope="auto", standalone=[0.4, 0.4]) == ([1.0, 1.0], 1.0)


def test_nothing_is_withheld_while_the_shared_model_is_worse_than_what_each_has_of_its_own() -> None:
    standalone = [0.92, 0.99, 0.95, 0.3]
    assert earned_widths(standalone, CURVE, slope=1.0, standalone=standalone)[0] == [1.0, 1.0, 1.0, 0.25]


def test_the_top_contributor_always_holds_the_full_width() -> None:
    mechanism, contributions = AequaTraining(), [0.3, 0.9, 0.6]
    assert mechanism.hold(contributions, {}, standalone=contributions, smallest=0.25) == [1.0] * 3
    # Even where a narrower width measured better.
    inverted = {0.5: 0.95, 1.0: 0.9}
    assert mechanism.hold(contributions, inverted, standalone=contributions, smallest=0.5)[1] == 1.0


def test_the_reward_follows_the_rule_of_the_rounds_where_that_is_chosen() -> None:
    contributions = [0.3, 0.8, 0.5]
    mechanism = AequaTraining(slope=1.5, individually_rational=False)
    held = mechanism.hold(contributions, CURVE, standalone=contributions, smallest=0.25)
    allocation = mechanism.allocate(contributions, CURVE, standalone=contributions, held=[1.0] * 3)
    assert allocation.widths.tolist() == held == [0.25, 1.0, 0.25]
    assert allocation.mcg == pytest.approx(np.mean([0.2, 0.1, 0.0]))
    assert allocation.slope == 1.5


def test_the_narrowest_width_teaches_unless_it_is_told_not_to() -> None:
    teaching = AequaTraining(distillation=0.25).distil([1.0, 0.5, 0.75])
    assert teaching is not None
    assert (teaching.teacher, teaching.weight) == (0.5, 0.25)
    assert AequaTraining(distillation=0.0).distil([1.0, 0.5]) is None


@pytest.mark.parametrize(
    ("held", "teacher"), [([1.0, 0.25, 0.75, 1.0, 0.5, 0.5], 0.5), ([0.25, 1.0, 1.0], 0.25), ([1.0, 1.0], 1.0)]
)
def test_the_third_widest_of_the_widths_that_are_held_may_teach(held: list[float], teacher: float) -> None:
    teaching = AequaTraining(teacher=3).distil(held)
    assert teaching is not None
    assert teaching.teacher == teacher
    assert teaching.students([1.0, 0.75, 0.5, 0.25]) == tuple(width for width in (1.0, 0.75, 0.5) if width > teacher)


@pytest.mark.parametrize(
    ("rules", "received"),
    [
        ({"individually_rational": False}, [0.5, 0.5, 0.7, 0.9]),
        ({}, [0.5, 0.7, 0.8, 0.9]),
        ({"payout": "nearest", "individually_rational": False}, [0.5, 0.5, 0.8, 0.9]),
        ({"payout": "nearest"}, [0.5, 0.7, 0.8, 0.9]),
    ],
)
def test_the_payout_rounds_what_is_deserved_as_it_is_told(rules: dict[str, Any], received: list[float]) -> None:
    # They deserve .3, .58, .78 and .9.
    contributions = [0.3, 0.58, 0.78, 0.9]
    mechanism = AequaTraining(slope=1.0, **rules)
    allocation = mechanism.allocate(contributions, CURVE, standalone=contributions, held=[1.0] * 4)
    assert allocation.accuracies.tolist() == received


def test_the_exact_payout_is_that_of_the_exact_optimiser() -> None:
    standalone = [0.3, 0.58, 0.78, 0.9]
    expected = Aequa().allocate(standalone, CURVE, standalone=standalone, held=[1.0] * 4)
    allocation = AequaTraining(payout="exact").allocate(standalone, CURVE, standalone=standalone, held=[1.0] * 4)
    assert allocation.widths.tolist() == expected.widths.tolist()
    assert check_payout(allocation, CURVE, unpaid=[]) == []


def test_what_was_held_is_what_slimming_pays() -> None:
    held = [0.25, 1.0, 0.5]
    allocation = Slimming().allocate([0.3, 0.8, 0.5], CURVE, standalone=[0.3, 0.8, 0.5], held=held)
    assert allocation.widths.tolist() == held
    assert allocation.mcg == pytest.approx(np.mean([0.2, 0.1, 0.2]))


def test_the_shared_model_is_full_for_all_and_its_correlation_undefined() -> None:
    allocation = SharedModel().allocate([0.3, 0.8, 0.5], CURVE, standalone=[0.3, 0.8, 0.5], held=[1.0] * 3)
    assert allocation.widths.tolist() == [1.0] * 3
    assert allocation.pearson is None


def test_nobody_loses_where_the_curve_allows_it() -> None:
    standalone = [0.72, 0.85, 0.4]
    allocation = Aequa().allocate(standalone, CURVE, standalone=standalone, held=[1.0] * 3)
    assert allocation.minimum_gain >= 0


def test_what_does_not_fit_is_refused() -> None:
    for objective in ("cv", "spread_minus_gain", "variance", "lexicographic", "nash"):
        with pytest.raises(InputError, match="proportional"):
            Aequa(contribution="fedsv", objective=objective)
    with pytest.raises(InputError, match="resolution"):
        Aequa(resolution=2)
    with pytest.raises(InputError, match="bootstrap_samples"):
        Aequa(bootstrap_samples=-1)
    with pytest.raises(InputError, match="slope"):
        AequaTraining(slope=-1)
    with pytest.raises(InputError, match="distillation"):
        AequaTraining(distillation=1.5)
    with pytest.raises(InputError, match=r"teacher=0 is no place"):
        AequaTraining(teacher=0)
    with pytest.raises(InputError, match=r"payout='up' is unknown; choose one of no_better"):
        AequaTraining(payout="up")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'exact' compares"):
        AequaTraining(payout="exact", contribution="cosine")


def test_the_intervals_come_from_as_many_drawings_as_asked_for() -> None:
    correct = np.array([[[1], [1], [0], [1]], [[1], [1], [1], [1]]])
    drawn = Aequa(bootstrap_samples=7).resample([0.5, 0.25], correct, [0.5, 1.0], seed=0)
    assert drawn is not None
    assert len(drawn.mcg) == 7
    assert Aequa(bootstrap_samples=0).resample([0.5, 0.25], correct, [0.5, 1.0], seed=0) is None


@pytest.mark.parametrize("objective", ["proportional", "pearson"])
def test_any_measure_pays_in_proportion_or_by_correlation(objective: str) -> None:
    values = [-0.02, 0.01, 0.11, 0.13]
    mechanism = Aequa(contribution="fedsv", objective=objective, individually_rational=False)
    allocation = mechanism.allocate(values, CURVE, standalone=[0.5] * 4, held=[1.0] * 4)
    assert allocation.accuracies.tolist() == sorted(allocation.accuracies)
    # Who harms is paid like who brings nothing, and never more.
    other = mechanism.allocate([0.0, *values[1:]], CURVE, standalone=[0.5] * 4, held=[1.0] * 4)
    assert allocation.widths.tolist() == other.widths.tolist()


def test_where_everybody_harms_all_are_alike() -> None:
    mechanism = Aequa(contribution="alignment", objective="proportional")
    allocation = mechanism.allocate([-0.02, 0.0, -0.01], CURVE, standalone=[0.9, 0.6, 0.8], held=[1.0] * 3)
    assert allocation.widths.tolist() == [1.0] * 3


def test_who_brought_nothing_has_no_claim_to_what_it_reaches_alone() -> None:
    mechanism = Aequa(contribution="fedsv", objective="proportional")
    allocation = mechanism.allocate([0.0, 0.01, 0.5], CURVE, standalone=[0.9, 0.6, 0.8], held=[1.0] * 3)
    # The second keeps its own claim, and the first lifts nobody.
    assert allocation.accuracies.tolist() == [0.5, 0.7, 0.9]


def test_the_front_keeps_the_rules_of_the_mechanism() -> None:
    standalone = [0.74, 0.9, 0.5]
    front = Aequa().frontier(standalone, CURVE)
    received = np.vectorize(CURVE.get)(front.widths)
    assert (received >= standalone).all()
    free = Aequa(individually_rational=False).frontier(standalone, CURVE)
    assert free.spreads.min() < front.spreads.min()
    assert SharedModel().frontier(standalone, CURVE).mean_gains.max() == pytest.approx(0.9 - np.mean(standalone))


def test_resampling_scatters_around_the_allocation() -> None:
    random = np.random.default_rng(0)
    correct = random.random((4, 400)) < np.array(list(CURVE.values()))[:, None]
    standalone = [0.3, 0.5, 0.7]
    drawn = Aequa().resample(standalone, correct[:, :, None], list(CURVE), seed=0)
    assert drawn is not None
    curve = dict(zip(CURVE, correct.mean(axis=1).tolist(), strict=True))
    allocation = Aequa().allocate(standalone, curve, standalone=standalone, held=[1.0] * 3)
    low, high = drawn.interval("mcg", level=0.9)
    assert low <= allocation.mcg <= high
    assert high - low < 0.1
    assert (
        Aequa(contribution="fedsv", objective="pearson").resample(standalone, correct[:, :, None], [], seed=0) is None
    )
    assert SharedModel().resample(standalone, correct[:, :, None], list(CURVE), seed=0) is None


STEPS = {0.25: 0.7, 0.5: 0.8, 1.0: 0.99}


@pytest.mark.parametrize(
    ("rules", "contributions", "expected"),
    [
        ({"full_width_for_top": True}, [0.5, 0.6], [0.5, 1.0]),
        ({"full_width_for_top": False}, [0.5, 0.6], [0.25, 0.5]),
        ({"slope": 0.0}, [0.5, 0.6], [1.0, 1.0]),
        ({"slope": 1.0}, [0.75, 0.98], [0.5, 1.0]),
        ({"individually_rational": True}, [0.82, 0.98], [1.0, 1.0]),
        ({"individually_rational": False}, [0.82, 0.98], [0.5, 1.0]),
    ],
)
def test_drawn_anew_the_widths_are_chosen_by_the_rules_of_the_mechanism(
    rules: dict[str, Any], contributions: list[float], expected: list[float]
) -> None:
    mechanism = Aequa(
        **{"objective": "lexicographic", "bootstrap_samples": 10, "individually_rational": False, **rules}
    )
    allocation = mechanism.allocate(contributions, STEPS, standalone=contributions, held=[1.0] * 2)
    assert allocation.widths.tolist() == expected
    # So many samples that nothing else is drawn.
    correct = np.arange(20_000) < 20_000 * np.array(list(STEPS.values()))[:, None]
    drawn = mechanism.resample(contributions, correct[:, :, None], list(STEPS), seed=0)
    assert drawn is not None
    assert (drawn.widths == expected).all()


def test_drawings_differ_by_their_seed_alone() -> None:
    correct = (np.random.default_rng(0).random((4, 200)) < np.array(list(CURVE.values()))[:, None])[:, :, None]

    def gains(seed: int) -> list[float]:
        drawn = Aequa(bootstrap_samples=5).resample([0.3, 0.5], correct, list(CURVE), seed=seed)
        assert drawn is not None
        return drawn.mcg.tolist()

    assert gains(1) == gains(1) != gains(2)


def test_the_front_of_a_mechanism_that_does_not_pin_the_top_has_more_to_choose_from() -> None:
    pinned, free = (Aequa(full_width_for_top=pin).frontier([0.5, 0.6], STEPS) for pin in (True, False))
    assert (pinned.widths[:, 1] == 1.0).all()
    assert free.widths[free.spreads.argmin()].tolist() == [0.25, 0.5]


def test_an_accuracy_that_is_deserved_but_for_rounding_is_paid() -> None:
    # 0.9 - 1 * (0.8 - 0.7) is less than 0.8 in floating point.
    assert earned_widths([0.7, 0.8], CURVE, slope=1.0, standalone=None)[0] == [0.75, 1.0]


def test_slimming_holds_the_share_of_its_target_and_no_less_than_the_smallest_width() -> None:
    mechanism = Slimming(target=Relative(2.0))
    held = mechanism.hold([0.1, 0.5, 1.0], {}, standalone=None, smallest=0.125)
    assert held == pytest.approx([0.125, 0.25, 1.0])


def test_negative_contributions_count_as_none() -> None:
    # A third of an equal share is 0.0622 where the first counts as 0, and less than nothing where it does not.
    late = Surviving(1 / 3, after=0).shares([-0.5, 0.5, 0.06], round=1, likeness=[1.0] * 3)
    assert late.tolist() == [0.0, 1.0, 0.0]
    assert Tanh().shares([-0.7, 0.5], round=1, likeness=[1.0] * 2).tolist() == [0.0, 1.0]
    assert Relative(2.0).shares([-0.7, 1.0, 2.0], round=1, likeness=[1.0] * 3).tolist() == [0.0, 0.25, 1.0]


def test_a_resolution_out_of_range_is_refused_in_training_too() -> None:
    for resolution in (-0.1, 1.5):
        with pytest.raises(InputError, match=r"trainer\.mechanism\.resolution"):
            AequaTraining(resolution=resolution)


def test_what_is_held_is_described_by_its_gains() -> None:
    allocation = held_allocation([0.5, 0.25], [1.0, 0.5], [0.75, 0.375], accuracy_by_width={0.5: 0.375, 1.0: 0.75})
    figures = (allocation.mcg, allocation.cgs, allocation.minimum_gain)
    assert figures == pytest.approx((0.1875, 0.0625, 0.125))
