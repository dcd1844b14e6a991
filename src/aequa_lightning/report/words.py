"""Numbers as words: how the report writes an accuracy, a gain, a time, and what happened in five sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aequa_lightning.report.run import ENDS, Allocation, Participant, Run
from aequa_lightning.runtime.terminal import printable

_NUMERALS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
_THIN = "\u202f"  # narrow no-break space, between a number and its unit


def percent(share: float | None) -> str:
    """Write a share of 0..1 as a percentage with one decimal; a dash where there is none.

    Example:
        >>> percent(0.9713), percent(None)
        ('97.1\u202f%', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}{_THIN}%"


def points(difference: float | None, *, sign: bool = True) -> str:
    """Write a difference of accuracies in percentage points, with its sign.

    Example:
        >>> points(0.142), points(-0.01), points(0.0123, sign=False)
        ('+14.2', '−1.0', '1.2')
    """
    if difference is None:
        return "–"
    text = f"{100 * difference:+.1f}" if sign else f"{100 * difference:.1f}"
    return text.replace("-", "−")


def ratio(value: float | None, *, digits: int = 3) -> str:
    """Write a coefficient or a width with at most ``digits`` decimals.

    Example:
        >>> ratio(0.98765), ratio(1.0), ratio(0.125), ratio(None)
        ('0.988', '1', '0.125', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("-", "−")


def width_of(participant: Participant) -> str:
    """Write the width that a participant received; a star marks a network whose layers have different widths.

    Example:
        >>> width_of(Participant(0, "Lyon", 90, width=0.61, by_layer=True))
        '0.61*'
    """
    return ratio(participant.width) + ("*" if participant.by_layer else "")


def coefficient(value: float | None) -> str:
    """Write a correlation with three decimals; None, that of a constant vector, as "undefined".

    Example:
        >>> coefficient(0.99), coefficient(None)
        ('0.990', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}".replace("-", "−")


def interval(bounds: Sequence[float] | None, kind: Literal["points", "coefficient", "ratio"]) -> str:
    """Write a range of gains in points, of coefficients or of widths; a dash where there is none.

    Example:
        >>> interval([0.142, 0.16], "points"), interval([0.25, 0.25], "ratio"), interval(None, "coefficient")
        ('14.2 to 16.0', '0.25', '–')
    """
    if bounds is None:
        return "–"
    write = {"points": lambda value: points(value, sign=False), "coefficient": coefficient, "ratio": ratio}[kind]
    return span([write(bound) for bound in bounds])


def duration(seconds: float) -> str:
    """Write a time span in the two largest units that it has.

    Example:
        >>> duration(0.345), duration(42.3), duration(125), duration(7380)
        ('0.34\u202fs', '42.3\u202fs', '2\u202fmin 5\u202fs', '2\u202fh 3\u202fmin')
    """
    if seconds < 1:
        return f"{seconds:.2f}{_THIN}s"
    if seconds < 60:
        return f"{seconds:.1f}{_THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_THIN}min {rest}{_THIN}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{_THIN}h {minutes}{_THIN}min"


def size(count: float) -> str:
    """Write a number of bytes with a decimal prefix.

    Example:
        >>> size(512), size(95_784), size(1_915_680)
        ('512\u202fB', '95.8\u202fkB', '1.92\u202fMB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g}{_THIN}{unit}"
    return f"{count:.0f}{_THIN}B"


def plural(count: int, noun: str, *, capital: bool = False) -> str:
    """Write a count with its noun; up to twelve in letters where it opens a sentence.

    Example:
        >>> plural(1, "round"), plural(10, "participant", capital=True), plural(40, "participant", capital=True)
        ('1 round', 'Ten participants', '40 participants')
    """
    number = _NUMERALS[count] if capital and count < len(_NUMERALS) else f"{count:,}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def span(values: Sequence[str]) -> str:
    """Join the first and the last of ordered texts as a range; one text when they are equal.

    Example:
        >>> span(["0.2", "0.5", "1"]), span(["1", "1"])
        ('0.2 to 1', '1')
    """
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def short_names(names: Sequence[str]) -> list[str]:
    """Drop what all names begin with, up to a separator, so that they fit beside an axis.

    Example:
        >>> short_names(["participant-00", "participant-01"]), short_names(["Lyon", "a-very-long-hospital-name"])
        (['00', '01'], ['Lyon', 'a-very-long-hospi…'])
    """
    names = [printable(name) for name in names]
    common = names[0]
    while not all(name.startswith(common) for name in names) or common in names:
        common = common[:-1]
    cut = max(common.rfind("-"), common.rfind("_"), common.rfind(" ")) + 1
    return [name[cut:] if len(name) - cut <= 18 else name[cut : cut + 17] + "…" for name in names]


def call(description: Mapping[str, Any]) -> str:
    """Write a named thing and its settings as the call that makes it.

    Example:
        >>> call({"name": "QuantityImbalance", "share": 0.15, "owners": 6})
        'QuantityImbalance(share=0.15, owners=6)'
    """
    settings = ", ".join(f"{key}={value!r}" for key, value in description.items() if key != "name")
    return f"{description['name']}({settings})" if settings else description["name"]


def describe(participant: Participant) -> str:
    """Say in one line what a participant brought and got: the hover text of the figures."""
    text = f"{participant.name}: {plural(participant.samples, 'sample')}, alone {percent(participant.standalone)}"
    if participant.received is None:
        return text
    return (
        f"{text}, received {percent(participant.received)} at width {width_of(participant)}, "
        f"gain {points(participant.gain)} points"
    )


def crowd(run: Run) -> str | None:
    """Say who is listed where that is not everybody; None where it is."""
    if not run.crowded:
        return None
    return (
        f"Of {plural(len(run.participants), 'participant')} the {ENDS} largest and the {ENDS} smallest contributors "
        "are listed; contributions.csv and allocation.json hold all."
    )


def story(run: Run) -> list[str]:
    """Tell in five sentences, or in fewer while the run has not got that far, what happened; one more of privacy."""
    spent = privacy(run)
    kept = [f"The shared network keeps {spent}."] if spent else []
    return [_training(run), *_cheating(run), *_accuracy(run), *_payment(run), *kept]


def privacy(run: Run) -> str | None:
    """Say what a run has spent of its participants' privacy; None where it was to keep none."""
    if not run.rounds or run.rounds[-1].epsilon is None:
        return None
    delta = run.start["privacy"]["delta"]
    return f"user-level differential privacy with epsilon {run.rounds[-1].epsilon:.3g} at delta {delta:g}"


def _training(run: Run) -> str:
    data, model = run.start["data"], run.start["model"]
    samples = [f"{count:,}" for count in sorted(p.samples for p in run.participants)]
    return (
        f"{plural(len(run.participants), 'participant', capital=True)} trained one {model['backbone']} network of "
        f"{model['parameters']:,} parameters together for {plural(len(run.rounds), 'round')} on {data['name']}, "
        f"split by {call(data['partition'])}; each kept its own {span(samples)} samples."
    )


def _cheating(run: Run) -> list[str]:
    """Say who cheats and how, in a run with adversaries."""
    ways = []
    for adversary in run.start.get("adversaries", ()):
        who = [run.participants[number].name for number in adversary["participants"]]
        settings = {key: value for key, value in adversary.items() if key != "participants"}
        ways.append(f"{', '.join(who)} by {call(settings)}")
    return [f"In this experiment some participants cheat: {'; '.join(ways)}."] if ways else []


def _accuracy(run: Run) -> list[str]:
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


def _payment(run: Run) -> list[str]:
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


def _correlation(allocation: Allocation) -> str:
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


def _gain(allocation: Allocation, gains: Sequence[float]) -> str:
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


def verdict(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
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
