"""What adversaries send and train on, and which of them are refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aequa_lightning.adversaries import (
    Adversary,
    Clone,
    Drift,
    FlippedLabels,
    Noise,
    NotFinite,
    Nothing,
    Replay,
    Scale,
    SharedData,
    SignFlip,
    View,
    check_adversaries,
)
from aequa_lightning.data import DigitsData
from aequa_lightning.engine.adversary_host import AdversaryHost, replace_samples
from aequa_lightning.errors import InputError

SIZE = 5000
UPDATE = torch.linspace(-1, 1, SIZE)


def _view(seed: int = 0, past: int = 3) -> View:
    source = torch.Generator().manual_seed(7)
    aggregates = [torch.randn(SIZE, generator=source) for _ in range(past)]
    return View(past + 1, torch.Generator().manual_seed(seed), torch.zeros(SIZE), torch.zeros(SIZE), aggregates)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_adversaries_what_takes_no_work() -> None:
    view = _view()
    assert not Nothing([0]).send(UPDATE, view).any()
    assert NotFinite([0]).send(UPDATE, view).isnan().all()
    noise = Noise([0], scale=2.0).send(UPDATE, view)
    assert noise.norm() == pytest.approx(2 * UPDATE.norm())
    assert abs(_cosine(noise, UPDATE)) < 5 / math.sqrt(SIZE)
    assert torch.equal(noise, Noise([0], scale=2.0).send(UPDATE, _view()))
    assert not torch.equal(noise, Noise([0], scale=2.0).send(UPDATE, _view(seed=1)))


def test_adversaries_replay_is_the_aggregate_of_some_rounds_ago() -> None:
    view = _view()
    for age, place in ((1, 2), (2, 1), (3, 0), (9, 0)):
        assert torch.equal(Replay([0], age=age).send(UPDATE, view), view.aggregates[place])
    assert torch.equal(Replay([0], scale=-3.0).send(UPDATE, view), -3 * view.aggregates[2])
    mixed = Replay([0], mix=0.25).send(UPDATE, view)
    assert _cosine(mixed, view.aggregates[2]) == pytest.approx(1 / math.sqrt(1 + 0.25**2), abs=0.01)
    assert not Replay([0]).send(UPDATE, _view(past=0)).any()


def test_adversaries_drift_is_as_long_as_the_update() -> None:
    sent = Drift([0], scale=0.5).send(UPDATE, _view())
    total = torch.stack(list(_view().aggregates)).sum(0)
    assert _cosine(sent, total) == pytest.approx(1)
    assert sent.norm() == pytest.approx(0.5 * UPDATE.norm())
    assert not Drift([0]).send(UPDATE, _view(past=0)).any()


def test_adversaries_tampering_changes_length_or_sign() -> None:
    assert torch.equal(Scale([0], factor=10).send(UPDATE, _view()), 10 * UPDATE)
    assert torch.equal(SignFlip([0]).send(UPDATE, _view()), -UPDATE)


def test_adversaries_samples_are_flipped_or_those_of_another() -> None:
    data = DigitsData(participants=4)
    data.setup("fit")
    before = [data.participant(number).tensors for number in range(4)]
    cheated = replace_samples(data, [FlippedLabels([1], share=0.5), SharedData([3], of=2)])
    half = round(0.5 * len(before[1][1]))
    inputs, targets = cheated.participant(1).tensors
    assert torch.equal(inputs, before[1][0])
    assert torch.equal(targets, torch.cat([9 - before[1][1][:half], before[1][1][half:]]))
    for ours, theirs in zip(cheated.participant(3).tensors, before[2], strict=True):
        assert torch.equal(ours, theirs)
    # What the caller gave is as it was, and the sizes follow the new samples.
    assert torch.equal(data.participant(1).tensors[1], before[1][1])
    assert len(cheated.pooled()) == sum(len(cheated.participant(number)) for number in range(4))
    assert cheated.class_counts().sum() == len(cheated.pooled())
    assert replace_samples(data, []) is data


def test_adversaries_clone_trains_with_the_other_ones_random_numbers() -> None:
    host = AdversaryHost([Clone([2, 3], of=1)], torch.zeros(3), seed=0)
    assert [host.trains_as(number) for number in range(4)] == [0, 1, 1, 1]


def test_adversaries_past_aggregates_survive_a_resume() -> None:
    parameters = torch.zeros(2)
    host = AdversaryHost([Replay([0], age=2)], parameters, seed=0)
    for step in (1.0, 10.0, 100.0):
        parameters += step
        host.end_round(parameters)
    resumed = AdversaryHost([Replay([0], age=2)], torch.zeros(2), seed=0)
    resumed.load_state_dict(host.state_dict(), parameters)
    for run in (host, resumed):
        parameters_then = parameters + 1000
        run.end_round(parameters_then)
        sent = run.send(0, torch.zeros(2), received=parameters_then, round=5)
        assert sent.tolist() == [100.0, 100.0]
    with pytest.raises(InputError, match=r"was saved with trainer\.adversaries"):
        AdversaryHost([Nothing([0])], torch.zeros(2), seed=0).load_state_dict(host.state_dict(), parameters)


def test_adversaries_nothing_is_kept_for_those_who_need_nothing() -> None:
    host = AdversaryHost([SignFlip([0])], torch.zeros(2), seed=0)
    host.end_round(torch.ones(2))
    assert host.state_dict()["aggregates"] == []


class _Short(Adversary):
    """Sends too little."""

    def send(self, update: Tensor, view: View) -> Tensor:
        return update[:-1]


def test_adversaries_update_of_another_size_is_refused_before_the_rounds() -> None:
    with pytest.raises(InputError, match=r"_Short.send returned torch.float32 of shape \(1,\)"):
        AdversaryHost([_Short([0])], torch.zeros(2), seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Nothing([]), "at least one"),
        (lambda: Nothing([1, 1]), "twice"),
        (lambda: Nothing([-1]), "from 0"),
        (lambda: Noise([0], scale=0), "Noise.scale=0"),
        (lambda: Noise([0], scale=math.nan), "Noise.scale=nan"),
        (lambda: Replay([0], age=0), "Replay.age=0"),
        (lambda: Replay([0], mix=-1), "Replay.mix=-1"),
        (lambda: Replay([0], scale=0), "Replay.scale=0"),
        (lambda: Drift([0], scale=math.inf), "Drift.scale=inf"),
        (lambda: Scale([0], factor=-1), "Scale.factor=-1"),
        (lambda: SignFlip([0], scale=0), "SignFlip.scale=0"),
        (lambda: FlippedLabels([0], share=1.5), "FlippedLabels.share=1.5"),
        (lambda: Clone([0], of=-1), "Clone.of=-1"),
    ],
)
def test_adversaries_bad_settings_are_refused(make: Callable[[], Adversary], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("adversaries", "message"),
    [
        ([Nothing([4])], "names participant 4, but data.participants=4"),
        ([Clone([0], of=4)], "names participant 4, but data.participants=4"),
        ([Nothing([1]), Noise([0, 1])], "participant 1 is both a Nothing and a Noise"),
        ([Clone([0], of=1), Nothing([1])], "Clone.of=1 must be honest, but it is a Nothing"),
        ([SharedData([0], of=0)], "SharedData.of=0 must be honest"),
    ],
)
def test_adversaries_what_does_not_go_together_is_refused(adversaries: list[Adversary], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_adversaries(adversaries, 4)
