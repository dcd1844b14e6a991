"""Sentences of the report: what happened in a run, and how several runs compare."""

from collections.abc import Sequence

from aequa_lightning.report.formatting import (
    call,
    coefficient,
    format_width,
    listed,
    plural,
    points,
    score,
    span,
    width_of,
)
from aequa_lightning.report.records import ROWS_AT_EACH_END, AllocationRecord, Participant, RunRecord

_NAMED = 3  # participants that a sentence names; of more it tells the number


def describe(participant: Participant) -> str:
    """Return a participant's accuracies, width and gain in one line: the hover text of the figures."""
    text = f"{participant.name}: {plural(participant.samples, 'sample')}, standalone {score(participant.standalone)}"
    if participant.received is None:
        return text
    return (
        f"{text}, received {score(participant.received)} at width {width_of(participant)}, "
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
    full = run.full_width
    alone = sorted(p.standalone for p in run.participants if p.standalone is not None)
    if full is None:
        return []
    if not alone:
        return [f"The shared network reaches {score(full)} at full width on the validation part."]
    lead = full - alone[-1]
    return [
        f"Alone they reach {span([score(a) for a in alone])} on the validation part; the shared network reaches "
        f"{score(full)} at full width, {points(abs(lead), sign=False)} points {'above' if lead >= 0 else 'below'} "
        f"the best of them."
    ]


def _payment(run: RunRecord) -> list[str]:
    allocation = run.allocation
    if allocation is None:
        return ["No widths have been allocated yet."]
    widths = sorted({p.width for p in run.participants if p.width is not None})
    if run.own_models:
        paid = "Everybody received a model of its own."
    elif len(widths) == 1:
        which = "the full width" if widths[0] == 1 else f"the same width, {format_width(widths[0])}"
        paid = f"Everybody received {which}."
    else:
        widest = [p.name for p in run.ranking if p.width == widths[-1]]
        # The word joiner keeps a line from ending inside a name.
        who = [name.replace("-", "-\u2060") for name in widest]
        paid = (
            f"Each received the sub-network that it earned: {span([format_width(w) for w in widths])} of the width of "
            f"every layer; {listed(who) if len(who) <= _NAMED else plural(len(who), 'participant')} "
            f"received {'the full width' if widths[-1] == 1 else f'the widest, {format_width(widths[-1])}'}."
        )
    unpaid = []
    if allocation.unpaid:
        caught = f"{', '.join(allocation.unpaid)} {'was' if len(allocation.unpaid) == 1 else 'were'} caught"
        unpaid = [f"{caught} cheating in most rounds and received no more than the narrowest network."]
    return [
        paid,
        *unpaid,
        _correlation(allocation),
        _gains(run, allocation),
        *_kept(run, allocation),
    ]


def _correlation(allocation: AllocationRecord) -> str:
    if allocation.pearson is None:
        return (
            "The correlation of contribution and received score is undefined, because one of the two is the same "
            "for everybody."
        )
    tested = allocation.pearson_test
    beside = "" if tested is None else f", and {coefficient(tested)} on held-out test data"
    return (
        f"What each contributed and what it received have a Pearson coefficient of {coefficient(allocation.pearson)}, "
        f"where 1 is a straight line{beside}."
    )


def outcome(run: RunRecord) -> str:
    """Say how many gained; where somebody received less than it reaches alone, also why."""
    allocation, known = run.allocation, [p for p in run.participants if p.gain is not None]
    if allocation is None or not known:
        return "Nobody was trained alone, so what each gains is not known."
    losers = [p for p in known if p.gain is not None and p.gain < 0]
    if not losers:
        return f"Everybody gained, at least {points(allocation.minimum_gain, sign=False)} points."
    everybody = len(losers) == len(known) > 1
    who = "Everybody" if everybody else plural(len(losers), "participant", capital=True)
    they = "it reaches" if len(losers) == 1 else "they reach"
    return (
        f"{who} received less than {they} alone, at worst {points(allocation.minimum_gain)} points, "
        f"because {_reasons(run, allocation, losers)}."
    )


def _gains(run: RunRecord, allocation: AllocationRecord) -> str:
    """Say who gained, and what the gains are on average."""
    if allocation.mcg is None:
        return outcome(run)
    spread = points(allocation.cgs, sign=False)
    return f"{outcome(run)} On average the gain is {points(allocation.mcg)}, with a spread of {spread}."


def _kept(run: RunRecord, allocation: AllocationRecord) -> list[str]:
    """Say who received a better network in a round than its reward: nothing takes it away again."""
    leads = [p.best_held - p.received for p in run.participants if p.best_held is not None and p.received is not None]
    better = [lead for lead in leads if lead > 0]
    if not better or allocation.held is None:
        return []
    told = (
        f"In the rounds {plural(len(better), 'participant')} held a better network than the reward, by up to "
        f"{points(max(better), sign=False)} points."
    )
    figures = allocation.held
    if figures["mcg"] is None:
        return [told]
    mean, spread = points(figures["mcg"]), points(figures["cgs"], sign=False)
    return [f"{told} If everybody keeps its best, the gain is {mean} on average, with a spread of {spread}."]


def _reasons(run: RunRecord, allocation: AllocationRecord, losers: Sequence[Participant]) -> str:
    """Say why these participants received less than they reach alone, the most frequent reason first."""
    if run.own_models:
        return "the models that the mechanism gives them are worse than those that they train alone"
    curve = allocation.accuracy_by_width
    best = max(curve[place] for place in curve if place in allocation.widths)
    unpaid = [p for p in losers if p.name in allocation.unpaid]
    beyond = [p for p in losers if p not in unpaid and p.standalone is not None and p.standalone > best]
    chosen = [p for p in losers if p not in unpaid and p not in beyond]
    reasons = {
        f"no width of the shared network reaches that: the best on offer has {score(best)} "
        "(more rounds or another learning rate may help)": beyond,
        "the mechanism gives a narrower network than one on offer that reaches it": chosen,
        "they were caught cheating" if len(unpaid) > 1 else "it was caught cheating": unpaid,
    }
    told = sorted((reason for reason, whom in reasons.items() if whom), key=lambda reason: -len(reasons[reason]))
    return "; or because ".join(told)


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
        spread = f"the smallest spread, {points(alike[2], sign=False)}"
        sentences.append(
            f"{most[0]} has the largest mean gain, {points(most[1])} points"
            f"{f', and {spread}' if most[0] == alike[0] else f'; {alike[0]} has {spread}'}."
        )
    if correlated:
        name, value = max(correlated, key=lambda pair: pair[1])
        sentences.append(
            f"Rewards follow contributions most closely in {name}: Pearson coefficient {coefficient(value)}."
        )
    losing = [
        (name, run) for name, run in zip(names, runs, strict=True) if any((p.gain or 0.0) < 0 for p in run.participants)
    ]
    sentences += [f"{name}: {outcome(run)}" for name, run in losing[:_NAMED]]
    if len(losing) > _NAMED:
        sentences.append(f"In {len(losing) - _NAMED} more runs somebody received less than it reaches alone.")
    if len({run.score for run in runs}) > 1:
        scores = sorted({run.score.name for run in runs})
        sentences.append(f"The runs have different scores ({', '.join(scores)}), which cannot be compared.")
    if len({(repr(run.start["data"]), tuple(p.standalone for p in run.participants)) for run in runs}) > 1:
        sentences.append("The runs differ in who holds what or reaches what alone, so their gains are not of one kind.")
    return sentences
