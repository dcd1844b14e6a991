"""The model card beside a reward: what it is, how to load it, how good it is, what it was earned by, its limits.

It follows from the manifest, the allocation and the record alone, so that the audit writes it again and compares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from aequa_lightning.contributions.measures import MEASURES
from aequa_lightning.modules.score import describe_score
from aequa_lightning.run_folder.events import SESSION_STARTS, Event

# A record must not carry more than a number into a card.
MAX_SAMPLES = 10**12


@dataclass(frozen=True)
class CardFacts:
    """What all cards of a run say.

    Attributes:
        round: The round after which was paid.
        data: Name of the data set.
        validation_samples: Samples of the validation part.
        test_samples: Samples of the test part.
        paid_by: Name of the contribution measure that was paid for.
        meaning: What it measures, in half a sentence.
        torch: Version of torch that the files were written with.
    """

    round: int
    data: str
    validation_samples: int
    test_samples: int
    paid_by: str
    meaning: str
    torch: str


def recorded_facts(
    number: int, data: str, versions: Mapping[str, str], events: Sequence[Event], *, sizes: tuple[int, int] | None
) -> CardFacts:
    """Return what all cards of a run say, from its record.

    Args:
        number: The round after which was paid.
        data: Name of the data set.
        versions: Of the manifest.
        events: The run's record.
        sizes: Samples of the validation and the test part; None: those of the record.

    Raises:
        IndexError: The run has not paid.
        KeyError: An event lacks a field, or the measure is none of this project.
        ValueError: A size in the record is none.
    """
    paid_by = [event for event in events if event["event"] == "contributions"][-1]["paid_by"]
    if sizes is None:
        start = [event for event in events if event["event"] in SESSION_STARTS][-1]["data"]
        sizes = int(start["validation"]), int(start["test"])
    if not all(0 < size <= MAX_SAMPLES for size in sizes):
        raise ValueError("its sizes of the parts are none")
    return CardFacts(number, data, *sizes, paid_by, MEASURES[paid_by].meaning, versions.get("torch", "?"))


@dataclass(frozen=True)
class TaskFacts:
    """What a network is for.

    Attributes:
        target_kind: Kind of its targets; None: not known.
        score: Name of its score.
        unit: ``%`` where that is a share of samples.
        reward_module: Module that the class of the reward is imported from.
        reward_class: Its name.
    """

    target_kind: str | None
    score: str
    unit: str
    reward_module: str
    reward_class: str

    @classmethod
    def of(cls, module: Any) -> "TaskFacts":
        """Return what a slimmable module is for."""
        kind, score = module.reward_class, describe_score(module.scorer)
        ready = kind.__module__.startswith("aequa_lightning.modules.")
        source = "aequa_lightning.modules" if ready else kind.__module__
        return cls(module.target_kind, score["name"], score["unit"], source, kind.__name__)


def wilson_interval(share: float, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was measured on some samples (Wilson, JASA 1927).

    Args:
        share: In [0, 1].
        samples: Their number, >= 1.

    Example:
        >>> low, high = wilson_interval(0.9, 100)
        >>> round(low, 3), round(high, 3)
        (0.826, 0.945)
    """
    interval = stats.binomtest(round(share * samples), samples).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def model_card(
    row: Mapping[str, Any],
    facts: CardFacts,
    *,
    task: TaskFacts,
    hyper_parameters: Mapping[str, Any],
    parameters: int,
    contribution: float,
) -> str:
    """Return the card of one reward, as Markdown.

    It names nothing that the participant has not earned, and no path.

    Args:
        row: The reward's row of the manifest.
        facts: What all cards of the run say.
        task: What the network is for.
        hyper_parameters: Arguments of :class:`~aequa_lightning.modules.RewardModule`.
        parameters: Number of parameters of the network.
        contribution: Of the participant, by the measure that was paid for.
    """
    classes, shape = hyper_parameters["num_classes"], tuple(hyper_parameters["input_shape"])
    kind = "rows of token numbers" if hyper_parameters["vocabulary_size"] else "inputs"
    layers = " (layers have shares of their own, see `manifest.json`)" if row.get("layers") else ""
    return f"""\
# Reward of {row["participant"]}

## What it is

{_kind(task, classes)} for {kind} of shape {shape}: the network `{hyper_parameters["backbone"]}` at width
{row["width"]:.4g}{layers}, {parameters:,} parameters. It was trained together by several participants on the data set
{facts.data}, and cut from the network after round {facts.round}.

## How to load it

```python
{_loading(row, hyper_parameters, task)}
```

Inputs are normalised first: images of bytes are divided by 255; then, where `mean` and `std` are given in
`torch.load({row["file"]!r}, weights_only=True)["about"]`, subtract the one and divide by the other, by channel or
feature. It was written with torch {facts.torch}.

## How good it is

{_table(row, facts, task)}

## What it was earned by

A contribution of {contribution:.4f} by the measure `{facts.paid_by}`: {facts.meaning}.
Whoever contributes more is to receive a better network.

## What it must not be used for

- Inputs of another origin, preprocessing or set of classes: nothing is known of its accuracy there.
- Decisions about people, unless it has been tested for them: accuracy by group, calibration and robustness were not
  measured.
- Conclusions about the data of other participants. Its parameters come from all of them: do not pass it on without
  their consent.
"""


def _loading(row: Mapping[str, Any], hyper_parameters: Mapping[str, Any], task: TaskFacts) -> str:
    """Return the lines of Python that load the network."""
    lines = []
    if "program" in row:
        lines += ["import torch", f"network = torch.export.load({row['program']!r}).module()  # torch alone", ""]
    backbone = hyper_parameters["backbone"]
    # A file may not say which code is run.
    given = f", backbone={backbone!r}" if ":" in backbone else ""
    given = f", backbone={backbone.strip('<>')}" if backbone.startswith("<") else given
    return "\n".join(
        [
            *lines,
            f"from {task.reward_module} import {task.reward_class}",
            f"network = {task.reward_class}.load_from_checkpoint({row['file']!r}{given}).eval()",
        ]
    )


def _kind(task: TaskFacts, classes: int) -> str:
    """Say what a network is.

    Example:
        >>> _kind(TaskFacts("classes", "accuracy", "%", "aequa_lightning.modules", "RewardClassifier"), 10)
        'A classifier of 10 classes'
    """
    kinds = {
        "classes": f"A classifier of {classes} classes",
        "labels": f"A classifier of {classes} labels, of which several may hold,",
        "positions": f"A classifier of each position, pixel or token, into {classes} classes",
        "numbers": f"A regressor of {classes} number{'s' if (classes or 0) > 1 else ''}",
    }
    return kinds.get(str(task.target_kind), f"A network of {classes} outputs")


def _table(row: Mapping[str, Any], facts: CardFacts, task: TaskFacts) -> str:
    """Return how good a network is, with intervals where its score is a share of samples."""
    parts = (
        ("test", row["test_accuracy"], facts.test_samples),
        ("validation", row["validation_accuracy"], facts.validation_samples),
    )
    decided = "Widths were chosen on the validation part; the test part decided nothing."
    if task.score != "accuracy":
        lines = [f"| {part} | {value:.3f} | {count} |" for part, value, count in parts]
        return "\n".join([f"| part | {task.score} | samples |", "|---|---|---|", *lines, "", decided])
    lines = [_accuracy(*part) for part in parts]
    told = "The intervals (Wilson) tell how far the\naccuracy depends on which samples were drawn."
    return "\n".join(
        ["| part | accuracy | 95 % interval | samples |", "|---|---|---|---|", *lines, "", f"{decided} {told}"]
    )


def _accuracy(part: str, accuracy: float, samples: int) -> str:
    low, high = wilson_interval(accuracy, samples)
    return f"| {part} | {accuracy:.1%} | {low:.1%} to {high:.1%} | {samples} |"
