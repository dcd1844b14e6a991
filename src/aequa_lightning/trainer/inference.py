"""Evaluation and prediction with a checkpoint of a run: the shared model, or one participant's reward."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.checkpoint import load_checkpoint, load_last
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.evaluation import AtWidth, input_batches, outputs_of, score_of
from aequa_lightning.engine.reward_source import load_reward_source
from aequa_lightning.errors import InputError
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task
from aequa_lightning.rewards.files.checkpoint import check_width, is_reward
from aequa_lightning.rewards.files.manifest import verify_reward
from aequa_lightning.run_folder.csv_files import csv_text
from aequa_lightning.run_folder.damaged_files import possibly_damaged
from aequa_lightning.run_folder.files import refuse_links, write_atomically
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.runtime.process_settings import keeping_modes, own_settings
from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.trainer.checkpoints import check_parameters
from aequa_lightning.trainer.given_objects import check_model_and_data

CPU = torch.device("cpu")


def load_network(
    ckpt_path: str | None,
    model: SlimmableModule,
    data: CollaborativeData,
    *,
    run_dir: Path,
    public_key: str | None = None,
) -> SlimmableModule | RewardModule:
    """Load the shared model into ``model``, or a reward into a network of its width.

    Args:
        ckpt_path: A checkpoint of a run, of Lightning's Trainer, or of a reward; ``last``: the newest sound one.
        model: The configured model.
        data: Its validation part calibrates the shared model's normalisation statistics, for every width of the grid.
        run_dir: Where ``last`` is looked for.
        public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; None: any may have.

    Raises:
        InputError: The file is missing, damaged, changed, or does not fit.
    """
    if ckpt_path is None:
        raise InputError("ckpt_path is missing; give rewards/NAME.ckpt, a checkpoint of the run, or 'last'.")
    path = user_path(ckpt_path, "ckpt_path")
    state = load_last(run_dir / "checkpoints") if ckpt_path == "last" else load_checkpoint(path)
    if state is None:
        raise InputError(f"ckpt_path='last': there is no checkpoint in {run_dir / 'checkpoints'}.")
    if is_reward(state):
        verify_reward(path, public_key=None if public_key is None else user_path(public_key, "public_key"))
        return load_reward(ckpt_path, state, model, data)
    if public_key is not None:
        raise InputError(f"public_key verifies rewards, but ckpt_path={ckpt_path!r} is none; leave the key out.")
    check_parameters(model, state)
    load_reward_source(model, state)
    if model.network.has_statistics:
        model.network.recalibrate(input_batches(model, data.validation(), CPU), model.network.widths)
    return model


def load_reward(
    ckpt_path: str, state: Mapping[str, Any], model: SlimmableModule, data: CollaborativeData
) -> RewardModule:
    """Build the narrow network that the configuration describes, and fill it from a reward file.

    Only width and shares of layers are taken from the file. All else that it says of its network must be what is
    configured: a file names no code to run.

    Args:
        ckpt_path: The file, for messages.
        state: Its content.
        model: The configured model.
        data: The configured data.

    Raises:
        InputError: The file is malformed, or describes another network than the configuration.
    """
    with possibly_damaged(Path(ckpt_path), "ask for it again"):
        saved = state["hyper_parameters"]
        width, layers = saved["width"], saved["layers"]
        check_width(width, layers)
        tensors = state["state_dict"]
        if not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise TypeError("its state_dict holds more than tensors")
    expected = model.reward_hparams(width, layers)
    if saved.get("input_shape") != expected["input_shape"]:
        raise InputError(
            f"ckpt_path={ckpt_path!r} takes inputs of shape {saved.get('input_shape')!r}, but data gives "
            f"{list(data.input_shape)}; use the data it was trained on."
        )
    for key in sorted(saved.keys() | expected.keys()):
        if key not in expected or key not in saved or saved[key] != expected[key]:
            raise InputError(
                f"ckpt_path={ckpt_path!r} was made with {key}={saved.get(key)!r:.80}, but the configuration gives "
                f"{key}={expected.get(key)!r:.80}; use the configuration of its run."
            )
    reward = model.reward_class(**expected | {"backbone": model.source.given})
    try:
        reward.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"ckpt_path={ckpt_path!r} does not fit its own width: {first}") from error
    return reward


def measure(
    network: SlimmableModule | RewardModule, stage: str, data: CollaborativeData, *, task: Task
) -> dict[str, float]:
    """Measure the score on the validation or test part: of every width of the grid, or of the one reward.

    Args:
        network: From :func:`load_network`.
        stage: ``validation`` or ``test``.
        data: The run's data.
        task: Knows loss and score.

    Returns:
        Scores in [0, 1] by the names of metrics.
    """
    part = data.test() if stage == "test" else data.validation()
    name = f"{stage}_{task.scorer.key}"
    if isinstance(network, RewardModule):
        return {name: score_of(task, network, part, device=CPU).value}
    return {
        f"{name}/{width:g}": score_of(task, AtWidth(network.network, width), part, device=CPU).value
        for width in network.network.widths
    }


@torch.no_grad()
def write_predictions(path: Path, network: SlimmableModule | RewardModule, data: CollaborativeData) -> int:
    """Write the prediction for every sample of the test part as CSV; return their number.

    Of classes the most probable one and its probability; of other targets as many columns as a prediction has numbers.

    Args:
        path: The file.
        network: From :func:`load_network`; the shared model predicts at full width.
        data: The run's data.
    """
    found = [network.predict(outputs) for outputs, _ in outputs_of(network, network, data.test(), device=CPU)]
    predictions = torch.cat(found)
    if network.has_classes:
        names, columns = ["prediction", "probability"], [each.tolist() for each in predictions.max(-1)[::-1]]
    else:
        columns = predictions.reshape(len(predictions), -1).T.tolist()
        names = ["prediction"] if len(columns) == 1 else [f"prediction_{place}" for place in range(len(columns))]
    rows = list(zip(range(len(predictions)), *columns, strict=True))
    write_atomically(path, csv_text(["sample", *names], rows).encode())
    return len(rows)


class Evaluates:
    """The verbs of the trainer that read a checkpoint or a reward: ``validate``, ``test`` and ``predict``."""

    config: RunConfig
    threads: int

    def validate(
        self,
        model: SlimmableModule,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the validation part: of the shared model at each width, or of one reward.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        return self._evaluate("validation", model, datamodule, ckpt_path, public_key)

    def test(
        self,
        model: SlimmableModule,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> list[dict[str, float]]:
        """Measure the accuracy on the test part: of the shared model at each width, or of one reward.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        return self._evaluate("test", model, datamodule, ckpt_path, public_key)

    def predict(
        self,
        model: SlimmableModule,
        datamodule: CollaborativeData,
        ckpt_path: str | None = None,
        public_key: str | None = None,
    ) -> Path:
        """Write the predictions for the test part as a CSV file: sample, prediction, probability.

        Args:
            model: The run's model.
            datamodule: The run's data.
            ckpt_path: ``rewards/NAME.ckpt``, a checkpoint of the run, or ``last``.
            public_key: PEM file of the Ed25519 key that must have signed the manifest of a reward; null: any may have.
        """
        check_model_and_data(model, datamodule)
        with self._settings(), keeping_modes(model):
            network = self._load(model, datamodule, ckpt_path, public_key)
            refuse_links(self.config.run_dir)
            path = self.config.run_dir / "predictions" / f"{Path(str(ckpt_path)).stem}.csv"
            count = write_predictions(path, network, datamodule)
        PlainConsole().print(f"{count} predictions  {path}", soft_wrap=True)
        return path

    def _evaluate(
        self,
        stage: str,
        model: SlimmableModule,
        data: CollaborativeData,
        ckpt_path: str | None,
        public_key: str | None,
    ) -> list[dict[str, float]]:
        check_model_and_data(model, data)
        with self._settings(), keeping_modes(model):
            results = measure(self._load(model, data, ckpt_path, public_key), stage, data, task=model)
        table = Table("metric", Path(str(ckpt_path)).stem)
        for metric, value in results.items():
            table.add_row(metric, repr(value))
        PlainConsole().print(table)
        return [results]

    def _load(
        self, model: SlimmableModule, data: CollaborativeData, ckpt_path: str | None, public_key: str | None
    ) -> SlimmableModule | RewardModule:
        data.prepare_data()
        return load_network(ckpt_path, model, data, run_dir=self.config.run_dir, public_key=public_key)

    def _settings(self) -> AbstractContextManager[None]:
        """Return the context in which a verb runs: threads, modes and random numbers of its own."""
        return own_settings(threads=self.threads, seed=self.config.seed % 2**32)
