"""The model cards of a payout."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aequa_lightning.contributions.measures import MEASURES
from aequa_lightning.data.loaded import data_name
from aequa_lightning.engine.run import Run
from aequa_lightning.rewards.files.card import CardFacts, TaskFacts, model_card
from aequa_lightning.run_folder.files import sha256, write_atomically


def write_cards(
    run: Run,
    rows: Sequence[dict[str, Any]],
    *,
    contributions: Sequence[float],
    layers: Mapping[float, dict[str, float]],
    paid_by: str,
) -> None:
    """Write everybody's model card, and name it in the rows of the manifest.

    Args:
        run: The run, whose rewards all processes have written.
        rows: From :func:`describe_rewards`; changed in place.
        contributions: What participants were paid for, (N,).
        layers: Of widths whose layers differ: the share of each layer, by its name.
        paid_by: Name of the contribution measure.
    """
    folder, network = run.config.run_dir / "rewards", run.classifier.network
    facts = CardFacts(
        run.round,
        data_name(run.data),
        len(run.data.validation()),
        len(run.data.test()),
        paid_by,
        MEASURES[paid_by].meaning,
        str(torch.__version__),
    )
    for row, contribution in zip(rows, contributions, strict=True):
        width = row["width"]
        text = model_card(
            row,
            facts,
            task=TaskFacts.of(run.classifier),
            hyper_parameters=run.classifier.reward_hparams(width, row.get("layers")),
            parameters=network.plan(layers.get(width, width)).numel(),
            contribution=contribution,
        )
        path = folder / f"{row['participant']}.md"
        write_atomically(path, text.encode())
        row |= {"card": path.name, "card_sha256": sha256(path)}
