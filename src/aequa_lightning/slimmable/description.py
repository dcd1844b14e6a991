"""A table for people of what the widths keep."""

from collections.abc import Mapping

from aequa_lightning.slimmable.tracing.structure import Structure


def description(structure: Structure, parameters: Mapping[float, int]) -> str:
    """Return a table of what can become narrower: the channels of each axis at each width, and the parameters.

    Below it stand the layers that stay whole at every width, each with the reason.

    Args:
        structure: How widths cut the network.
        parameters: Number of parameters of each width to show.

    Example:
        >>> import torch
        >>> from aequa_lightning.slimmable import SlimmableModel
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> slim = SlimmableModel(net, [1, 0.5], torch.zeros(1, 4))
        >>> print(description(slim.structure, {1.0: 83, 0.5: 43}))
        layer       unit   1  0.5
        0              1  10    5
        parameters        83   43
    """
    header = ["layer", "unit", *(f"{width:g}" for width in parameters)]
    columns = [structure.sizes(width) for width in parameters]
    rows = [
        [axis.name, str(axis.unit), *(str(column[number]) for column in columns)]
        for number, axis in enumerate(structure.axes)
    ]
    rows.append(["parameters", "", *(f"{count:,}" for count in parameters.values())])
    spans = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        first, *others = zip(row, spans, strict=True)
        lines.append([first[0].ljust(first[1]), *(cell.rjust(span) for cell, span in others)])
    whole = [f"stays whole: {layer}: {reason}" for layer, reason in structure.whole.items()]
    return "\n".join([*("  ".join(line) for line in lines), *whole])
