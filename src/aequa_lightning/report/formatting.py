"""Numbers as text: how the report writes a score, a gain, a time, a size."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from aequa_lightning.report.records import ACCURACY, Participant, ScoreRecord
from aequa_lightning.runtime.terminal import printable

_NUMERALS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
_THIN = "\u202f"  # narrow no-break space, between a number and its unit


# The score of the run that is written about: its name, and whether it is a share of samples, which is told in percent.
_SCORE: ContextVar[ScoreRecord] = ContextVar("score", default=ACCURACY)


@contextmanager
def writing_of(score: ScoreRecord) -> Iterator[None]:
    """Within the block, write scores by the name and the unit of this one.

    Example:
        >>> with writing_of(ScoreRecord("R^2", "")):
        ...     score_name(), score(0.5072), score(None)
        ('R^2', '0.507', '–')
    """
    token = _SCORE.set(score)
    try:
        yield
    finally:
        _SCORE.reset(token)


def score_name() -> str:
    """Return the name of the score, such as accuracy."""
    return _SCORE.get().name


def is_in_percent() -> bool:
    """Tell whether the score is written in percent."""
    return _SCORE.get().unit == "%"


def score(value: float | None) -> str:
    """Write a score of 0..1: in percent where it is a share of samples, else with three decimals; a dash for none.

    Example:
        >>> score(0.9713), score(None)
        ('97.1\u202f%', '–')
    """
    if is_in_percent() or value is None:
        return percent(value)
    return f"{value:.3f}"


def percent(share: float | None) -> str:
    """Write a share of 0..1 as a percentage with one decimal; a dash where there is none.

    Example:
        >>> percent(0.9713), percent(None)
        ('97.1\u202f%', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}{_THIN}%"


def points(difference: float | None, *, sign: bool = True) -> str:
    """Write a difference of scores in points, hundredths of the score, with its sign.

    Example:
        >>> points(0.142), points(-0.01), points(0.0123, sign=False)
        ('+14.2', '−1.0', '1.2')
    """
    if difference is None:
        return "–"
    text = f"{100 * difference:+.1f}" if sign else f"{100 * difference:.1f}"
    return text.replace("-", "−")


def ratio(value: float | None, *, digits: int = 3) -> str:
    """Write a ratio with at most ``digits`` decimals; a dash where there is none.

    Example:
        >>> ratio(0.98765), ratio(1.0), ratio(0.125), ratio(None)
        ('0.988', '1', '0.125', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("-", "−")


def format_width(value: float | None) -> str:
    """Write a width with at most four decimals, which tell sixteenths apart; a dash where there is none.

    Example:
        >>> format_width(0.3125), format_width(0.296875), format_width(1.0), format_width(None)
        ('0.3125', '0.2969', '1', '–')
    """
    return ratio(value, digits=4)


def width_of(participant: Participant) -> str:
    """Write the width that a participant received; a star marks a network whose layers have different widths.

    Example:
        >>> width_of(Participant(0, "Lyon", 90, width=0.61, by_layer=True))
        '0.61*'
    """
    return format_width(participant.width) + ("*" if participant.by_layer else "")


def coefficient(value: float | None) -> str:
    """Write a correlation with three decimals; None, that of a constant vector, as "undefined".

    Example:
        >>> coefficient(0.99), coefficient(None)
        ('0.990', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}".replace("-", "−")


def interval(bounds: Sequence[float] | None, kind: Literal["points", "coefficient", "width"]) -> str:
    """Write a range of gains in points, of coefficients or of widths; a dash where there is none.

    Example:
        >>> interval([0.142, 0.16], "points"), interval([0.25, 0.25], "width"), interval(None, "coefficient")
        ('14.2 to 16.0', '0.25', '–')
    """
    if bounds is None:
        return "–"
    write = {"points": lambda value: points(value, sign=False), "coefficient": coefficient, "width": format_width}[kind]
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


def listed(texts: Sequence[str]) -> str:
    """Join texts as an enumeration.

    Example:
        >>> listed(["Lyon"]), listed(["Lyon", "Bern"]), listed(["Lyon", "Bern", "Graz"])
        ('Lyon', 'Lyon and Bern', 'Lyon, Bern and Graz')
    """
    return " and ".join(part for part in (", ".join(texts[:-1]), texts[-1]) if part)


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


def in_words(call: str) -> str:
    """Write the call that makes a mechanism in words: its name, and its settings as a list.

    Args:
        call: As ``repr`` gives it. A text that is no call is returned up to its first bracket.

    Example:
        >>> in_words("Aequa(contribution='standalone', slope=1.5, full_width_for_top=True, share=None)")
        'Aequa: contribution standalone, slope 1.5, full width for top'
        >>> in_words("Composed(target=Relative(power=2), payment=Masking(), unpaid=False)")
        'Composed: target Relative (power 2), payment Masking, no unpaid'
        >>> in_words("SharedModel(<0x7f>)")
        'SharedModel'
    """
    try:
        tree = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return call.split("(")[0]
    if not isinstance(tree, ast.Call):
        return call
    settings = ", ".join(_settings(tree))
    return f"{ast.unparse(tree.func)}: {settings}" if settings else ast.unparse(tree.func)


def _settings(call: ast.Call) -> list[str]:
    """Write each setting of a call as its name and its value; those that are None are left out."""
    words = [_value(argument) for argument in call.args]
    for keyword in call.keywords:
        name = (keyword.arg or "").replace("_", " ")
        match keyword.value:
            case ast.Constant(value=None):
                continue
            case ast.Constant(value=bool(yes)):
                words.append(name if yes else f"no {name}")
            case value:
                words.append(f"{name} {_value(value)}")
    return words


def _value(value: ast.expr) -> str:
    match value:
        case ast.Constant():
            return str(value.value)
        case ast.Call():
            settings = ", ".join(_settings(value))
            return f"{ast.unparse(value.func)} ({settings})" if settings else ast.unparse(value.func)
        case _:
            return ast.unparse(value)


def call(description: Mapping[str, Any]) -> str:
    """Write a named thing and its settings as the call that makes it.

    Example:
        >>> call({"name": "QuantityImbalance", "share": 0.15, "owners": 6})
        'QuantityImbalance(share=0.15, owners=6)'
    """
    settings = ", ".join(f"{key}={value!r}" for key, value in description.items() if key != "name")
    return f"{description['name']}({settings})" if settings else description["name"]
