"""The five sentences and the numbers in them."""

from dataclasses import replace
from pathlib import Path

from aequa_lightning.data.partition import Partition
from aequa_lightning.report import read_run
from aequa_lightning.report.formatting import short_names
from aequa_lightning.report.glossary import OBJECTIVES, PARTITIONS
from aequa_lightning.report.sentences import outcome, privacy, summarise, verdict
from aequa_lightning.rewards import OBJECTIVES as KNOWN_OBJECTIVES
from tests.helpers.fake_run import write_fake_run


def test_story_has_five_sentences_with_the_numbers_of_the_run(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=10, rounds=7))
    sentences = summarise(run)
    assert len(sentences) == 5
    assert "Ten participants" in sentences[0]
    assert "7 rounds" in sentences[0]
    assert run.allocation is not None
    assert f"{run.allocation.pearson:.3f}" in sentences[3]
    assert sentences[4].startswith("Everybody gained")


def test_story_counts_those_who_lose(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=4, rounds=2))
    assert run.allocation is not None
    people = [replace(p, gain=-0.02 if p.number < 2 else 0.1) for p in run.participants]
    loss = replace(run, participants=tuple(people), allocation=replace(run.allocation, minimum_gain=-0.02))
    assert summarise(loss)[4].startswith(
        "Two participants received less than they reach alone, at worst −2.0 points, because"
    )


def test_a_loss_is_told_with_its_reason(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=4, rounds=2))
    assert run.allocation is not None
    assert outcome(run).startswith("Everybody gained, at least")
    poor = replace(run.allocation, accuracy_by_width={0.5: 0.1, 1.0: 0.15}, widths=(0.5, 1.0), minimum_gain=-0.3)
    people = tuple(replace(p, received=0.15, gain=0.15 - (p.standalone or 0)) for p in run.participants)
    lost = replace(run, participants=people, allocation=poor)
    assert outcome(lost).startswith("Everybody received less than they reach alone, at worst −30.0 points, because no")
    assert "the best on offer has 15.0" in outcome(lost)
    assert outcome(lost) in summarise(lost)[-1]
    assert verdict(["good", "poor"], [run, lost])[2] == f"poor: {outcome(lost)}"
    # Here a wide enough network was on offer.
    rich = replace(lost, allocation=replace(run.allocation, minimum_gain=-0.3))
    assert "the mechanism gives a narrower network" in outcome(rich)
    caught = replace(rich, allocation=replace(run.allocation, minimum_gain=-0.3, unpaid=(people[0].name,)))
    first, second = outcome(caught).split("; or because ")
    assert "narrower" in first
    assert second == "it was caught cheating."
    own = replace(lost, participants=tuple(replace(p, width=1.0, received=0.1 * p.number) for p in people))
    assert "models that the mechanism gives" in outcome(own)
    assert outcome(replace(run, participants=tuple(replace(p, gain=None) for p in people))).startswith("Nobody")


def test_whoever_held_a_better_network_in_a_round_is_counted(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=4, rounds=2))
    assert run.allocation is not None
    assert not any(sentence.startswith("In the rounds") for sentence in summarise(run))
    people = tuple(replace(p, received=0.5, best_held=0.6 if p.number < 2 else 0.4) for p in run.participants)
    figures = {"mcg": 0.125, "cgs": 0.05, "minimum_gain": 0.0, "pearson": 0.5}
    told = summarise(replace(run, participants=people, allocation=replace(run.allocation, held=figures)))[-1]
    assert told == (
        "In the rounds 2 participants held a better network than the reward, by up to 10.0 points. "
        "If everybody keeps its best, the gain is +12.5 on average, with a spread of 5.0."
    )


def test_all_who_received_the_widest_network_are_named(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=6, rounds=2))
    for count, told in ((2, "00 and participant-\u206001 received the full width."), (5, "5 participants received")):
        people = (
            replace(p, width=1.0, received=0.9) if p.number < count else replace(p, width=0.3125, received=0.7)
            for p in run.participants
        )
        ranked = tuple(replace(p, contribution=1 - 0.1 * p.number) for p in people)
        assert told in summarise(replace(run, participants=ranked))[2]
        assert "0.3125 to 1 of the width" in summarise(replace(run, participants=ranked))[2]


def test_story_of_an_unfinished_run_promises_nothing(tmp_path: Path) -> None:
    sentences = summarise(read_run(write_fake_run(tmp_path, participants=4, rounds=2, finished=False)))
    assert sentences[-1] == "No widths have been allocated yet."


def test_story_ends_with_the_privacy_that_the_last_round_left(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=4, rounds=2))
    assert privacy(run) is None
    rounds = tuple(replace(r, epsilon=1.25 * r.number) for r in run.rounds)
    private = replace(run, rounds=rounds, start={**run.start, "privacy": {"delta": 1e-5}})
    said = "The shared network keeps user-level differential privacy with epsilon 2.5 at delta 1e-05."
    assert summarise(private) == [*summarise(run), said]


def test_story_of_models_of_ones_own_speaks_of_no_width(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=4, rounds=2))
    people = tuple(replace(p, width=1.0, received=0.5 + 0.1 * p.number) for p in run.participants)
    assert summarise(replace(run, participants=people))[2] == "Everybody received a model of its own."
    alike = tuple(replace(p, received=0.5) for p in people)
    assert summarise(replace(run, participants=alike))[2] == "Everybody received the full width."


def test_short_names_stay_different() -> None:
    assert short_names(["a", "a-b"]) == ["a", "a-b"]
    assert short_names(["only-one"]) == ["one"]
    assert short_names(["x_10", "x_11"]) == ["10", "11"]


def test_every_name_that_a_page_shows_is_explained() -> None:
    assert {*OBJECTIVES} == {*KNOWN_OBJECTIVES}
    own = [kind.__name__ for kind in Partition.__subclasses__() if kind.__module__.startswith("aequa_lightning")]
    assert {*PARTITIONS} == {*own}


def test_the_verdict_names_the_best_of_each_figure_and_warns_of_unlike_runs(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path / "run", participants=4, rounds=2))
    assert run.allocation is not None
    fair, rich = (
        replace(run, allocation=replace(run.allocation, mcg=mcg, cgs=cgs, pearson=pearson))
        for mcg, cgs, pearson in ((0.1, 0.01, 0.9), (0.2, 0.05, None))
    )
    gains, closest = verdict(["fair", "rich"], [fair, rich])
    assert gains == "rich has the largest mean gain, +20.0 points; fair has the smallest spread, 1.0."
    assert closest == "Rewards follow contributions most closely in fair: Pearson coefficient 0.900."
    other = read_run(write_fake_run(tmp_path / "other", participants=3, rounds=2))
    assert "not of one kind" in verdict(["fair", "other"], [fair, other])[-1]
    assert verdict(["fair", "none"], [fair, replace(rich, allocation=None)]) == []
