"""Sentences of the report: what happened in a run, and how several runs compare."""

from collections.abc import Sequence

from aequa_lightning.report.formatting import call, coefficient, percent, plural, points, ratio, span, width_of
from aequa_lightning.report.records import ROWS_AT_EACH_END, AllocationRecord, Participant, RunRecord


def describe(participant: Participant) -> str:
    """Return a participant's accuracies, width and gain in one line: the hover text of the figures."""
    text = f"{participant.name}: {plural(participant.samples, 'sample')}, alone {percent(participant.standalone)}"
    if participant.received is None:
        return text
    return (
        f"{text}, received {percent(participant.received)} at width {width_of(participant)}, "
        f"gain {points(participant.gain)} points"
    )


def truncation_note(run: RunRecord) -> str | None:
    """Say which participants are listed if not all are; None if they are."""
    if not run.truncated:
        return None
    return (
        f"Of {plural(len(run.participants), 'participant')} the {ROWS_AT_EACH_END} largest and the "
        f"{ROWS_AT_EACH_END} smallest contributors are listed; contributions.csv and allocation.json hold all."
    )


def summarise(run: RunRecord) -> list[str]:
    """Summarise a run in up to seven sentences; an unfinished run has fewer."""
    spent = privacy(run)
    kept = [f"The shared network keeps {spent}."] if spent else []
    return [_training(run), *_cheating(run), *_accuracy(run), *_payment(run), *kept]


def privacy(run: RunRecord) -> str | None:
    """State the privacy guarantee that a run has reached; None if it was trained without differential privacy."""
    if not run.rounds or run.rounds[-1].epsilon is None:
        return None
    delta = run.start["privacy"]["delta"]
    return f"user-level differential privacy with epsilon {run.rounds[-1].epsilon:.3g} at delta {delta:g}"


def _training(run: RunRecord) -> str:
    data, model = run.start["data"], run.start["model"]
    samples = [f"{count:,}" for count in sorted(p.samples for p in run.participants)]
    return (
        f"{plural(len(run.participants), 'participant', capital=True)} trained one {model['backbone']} network of "
        f"{model['parameters']:,} parameters together for {plural(len(run.rounds), 'round')} on {data['name']}, "
        f"split by {call(data['partition'])}; each kept its own {span(samples)} samples."
    )


def _cheating(run: RunRecord) -> list[str]:
    """Name the adversaries of a run, and what they do."""
    ways = []
    for adversary in run.start.get("adversaries", ()):
        who = [run.participants[number].name for number in adversary["participants"]]
        settings = {key: value for key, value in adversary.items() if key != "participants"}
        ways.append(f"{', '.join(who)} by {call(settings)}")
    return [f"In this experiment some participants cheat: {'; '.join(ways)}."] if ways else []


def _accuracy(run: RunRecord) -> list[str]:
    full = run.full_accuracy
    alone = sorted(p.standalone for p in run.participants if p.standalone is not None)
    if full is None:
        return []
    if not alone:
        return [f"The shared network reaches {percent(full)} at full width on the validation part."]
    lead = full - alone[-1]
    return [
        f"Alone they reach {span([percent(a) for a in alone])} on the validation part; the shared network reaches "
        f"{percent(full)} at full width, {points(abs(lead), sign=False)} points {'above' if lead >= 0 else 'below'} "
        f"the best of them."
    ]


def _payment(run: RunRecord) -> list[str]:
    allocation = run.allocation
    if allocation is None:
        return ["No widths have been allocated yet."]
    widths = sorted({p.width for p in run.participants if p.width is not None})
    top = run.ranking[0]
    if run.own_models:
        paid = "Everybody received a model of its own."
    elif len(widths) == 1:
        paid = f"Everybody received {'the full width' if widths[0] == 1 else f'the same width, {ratio(widths[0])}'}."
    else:
        # The word joiner keeps a line from ending inside a name.
        name = top.name.replace("-", "-\u2060")
        paid = (
            f"Each received the sub-network that it earned: {span([ratio(w) for w in widths])} of the width of "
            f"every layer; {name}, which contributed most, "
            f"received {'the full width' if top.width == 1 else ratio(top.width)}."
        )
    unpaid = []
    if allocation.unpaid:
        caught = f"{', '.join(allocation.unpaid)} {'was' if len(allocation.unpaid) == 1 else 'were'} caught"
        unpaid = [f"{caught} cheating in most rounds and received no more than the narrowest network."]
    return [
        paid,
        *unpaid,
        _correlation(allocation),
        _gain(allocation, [p.gain for p in run.participants if p.gain is not None]),
    ]


def _correlation(allocation: AllocationRecord) -> str:
    if allocation.pearson is None:
        return (
            "The correlation of contribution and received accuracy is undefined, because one of the two is the same "
            "for everybody."
        )
    tested = allocation.pearson_test
    beside = "" if tested is None else f", and {coefficient(tested)} on the test part, which decided nothing"
    return (
        f"What each contributed and what it received have a Pearson coefficient of {coefficient(allocation.pearson)}, "
        f"where 1 is a straight line{beside}."
    )


def _gain(allocation: AllocationRecord, gains: Sequence[float]) -> str:
    if not gains:
        return "Nobody was trained alone, so what each gains is not known."
    losers = sum(gain < 0 for gain in gains)
    spread = f"with a spread of {points(allocation.cgs, sign=False)}"
    if losers == 0:
        least, mean = points(allocation.minimum_gain, sign=False), points(allocation.mcg, sign=False)
        return f"Everybody gained, at least {least} points; on average the gain is {mean}, {spread}."
    who, they = plural(losers, "participant", capital=True), "it" if losers == 1 else "they"
    return (
        f"{who} received less than {they} had alone, at worst {points(allocation.minimum_gain)} points; "
        f"on average the gain is {points(allocation.mcg)}, {spread}."
    )


def verdict(names: Sequence[str], runs: Sequence[RunRecord]) -> list[str]:
    """Say which of several runs is best by which figure, and whether they can be compared at all.

    Args:
        names: A name for each run.
        runs: The runs; one that has not allocated is passed over.
    """
    paid = [(name, run.allocation) for name, run in zip(names, runs, strict=True) if run.allocation]
    if len(paid) < 2:
        return []
    gained = [(name, a.mcg, a.cgs) for name, a in paid if a.mcg is not None and a.cgs is not None]
    correlated = [(name, a.pearson) for name, a in paid if a.pearson is not None]
    sentences = []
    if gained:
        most, alike = max(gained, key=lambda figures: figures[1]), min(gained, key=lambda figures: figures[2])
        sentences.append(
            f"{most[0]} has the largest mean gain, {points(most[1])} points; "
            f"{alike[0]} the smallest spread, {points(alike[2], sign=False)}."
        )
    if correlated:
        name, value = max(correlated, key=lambda pair: pair[1])
        sentences.append(
            f"Rewards follow contributions most closely in {name}: Pearson coefficient {coefficient(value)}."
        )
    if len({(repr(run.start["data"]), tuple(p.standalone for p in run.participants)) for run in runs}) > 1:
        sentences.append("The runs differ in who holds what or reaches what alone, so their gains are not of one kind.")
    return sentences
