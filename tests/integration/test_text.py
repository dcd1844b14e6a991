"""A run on sentences: token numbers instead of images, through every part that looks at inputs."""

from pathlib import Path

import pytest
import torch

from aequa_lightning.modules import RewardClassifier
from tests.helpers.command import aequa, events

SENTENCES = ["1 a good film", "0 a bad film", "1 good , good fun", "0 what a bore"] * 40


def write_treebank(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / f"stsa.binary.{part}").write_text("\n".join(SENTENCES) + "\n")


@pytest.mark.parametrize("backbone", ["bilstm", "text_cnn"])
def test_a_run_on_sentences(backbone: str, tmp_path: Path) -> None:
    write_treebank(tmp_path)
    words = [
        *("--data=SST2Data", "--data.root=.", "--data.length=6", "--data.participants=3", "--data.batch_size=16"),
        *("--model=SlimmableClassifier", f"--model.backbone={backbone}", "--model.widths=[1.0,0.5,0.25]"),
        *("--model.backbone_options={embedding: 12}", "--optimizer=Adam", "--optimizer.lr=0.01"),
        *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_rounds=2", "--trainer.run_dir=run"),
        *("--trainer.mechanism=Aequa", "--trainer.mechanism.resolution=0.2", "--trainer.report=false"),
        "--trainer.assessment.measures=[cosine,class_cosine,alignment,fedsv]",
    ]
    assert aequa("fit", *words) == 0
    assert events(Path("run"), "round")[-1]["validation_accuracy"]["1"] > 0.9
    assert aequa("test", *words, "--ckpt_path=run/rewards/participant-00.ckpt") == 0
    # The program is the network of the checkpoint, padding and all.
    checkpoint = torch.load("run/rewards/participant-00.ckpt", weights_only=True)
    reward = RewardClassifier(**checkpoint["hyper_parameters"]).eval()
    reward.load_state_dict(checkpoint["state_dict"])
    tokens = torch.tensor([[2, 3, 4, 0, 0, 0], [5, 2, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    program = torch.export.load("run/rewards/participant-00.pt2").module()
    torch.testing.assert_close(program(tokens), reward(tokens))
