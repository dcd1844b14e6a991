"""Known networks at six widths against a judge that shares no code with the tracer: right, refused, or wrong.

Usage: python -m benchmarks.zoo [--out FILE] [torchvision|timm|transformers|NAME ...]

torchvision: all classification networks of at most 31 million parameters; timm and transformers, where they are
installed: a list of families, as small as their options allow. Each network is filled with random values, made
slimmable, and at each width its extract is compared with the full network with zeros in place of what the width leaves
out (``tests/helpers/width_judge.py``). Families that take a mean, a softmax or a norm without weights over their
channels do so over those that are left, and are compared with the model only (marked "over those left"). A row of the
CSV file is one network; networks that have a row are skipped.
"""

import argparse
import csv
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel
from tests.helpers.width_judge import fault_of

WIDTHS = (1.0, 0.75, 0.61, 0.5, 0.3, 0.25)
LARGEST = 31_000_000
SIDE = {"inception_v3": 299, "vit_b_16": 224, "vit_b_32": 224, "maxvit_t": 224}
TIMM = """
    resnet10t resnet26d res2net50_26w_4s seresnet18 ecaresnet50t resnext26ts densenet121 efficientnet_b0
    mobilenetv3_small_100 mnasnet_small regnety_002 convnext_atto convnextv2_atto vit_tiny_patch16_224
    deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224 resmlp_12_224 gmixer_12_224 poolformer_s12
    levit_128s ghostnet_050 hrnet_w18_small dla34
""".split()  # noqa: SIM905
TRANSFORMERS = "bert distilbert roberta albert vit deit convnext swin llama gpt2 mixer segformer".split()  # noqa: SIM905
OVER_THOSE_LEFT = {"convnextv2_atto", "llama"}


class Logits(nn.Module):
    """A network of transformers that returns a tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, or the last hidden state."""
        out = self.network(x)
        logits: Tensor = out.logits if hasattr(out, "logits") else out.last_hidden_state
        return logits


def from_transformers(name: str) -> tuple[nn.Module, Tensor]:
    """Return a tiny network of transformers and a batch of two."""
    import transformers as hf

    text = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"intermediate_size": 37, "max_position_embeddings": 64, "num_labels": 3, "pad_token_id": 0}
    image = {"image_size": 32, "num_labels": 3}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    builders: dict[str, Callable[[], nn.Module]] = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**text)),
        "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**text)),
        "albert": lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(**text, embedding_size=16)),
        "distilbert": lambda: hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=37, num_labels=3)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**text, num_key_value_heads=2)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(
                vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
            )
        ),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**image, **small, patch_size=8)),
        "deit": lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**image, **small, patch_size=8)),
        "convnext": lambda: hf.ConvNextForImageClassification(
            hf.ConvNextConfig(hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], num_labels=3)
        ),
        "swin": lambda: hf.SwinForImageClassification(
            hf.SwinConfig(
                image_size=32, patch_size=2, embed_dim=24, depths=[1, 2], num_heads=[2, 4], window_size=4, num_labels=3
            )
        ),
        "segformer": lambda: hf.SegformerForImageClassification(
            hf.SegformerConfig(
                depths=[1, 1, 1, 1], hidden_sizes=[16, 16, 32, 32], num_attention_heads=[1, 2, 2, 4],
                decoder_hidden_size=16, num_labels=3,
            )
        ),
    }  # fmt: skip
    if name == "mixer":  # transformers has no image mixer: PatchTSMixer is its mixer, for time series
        config = hf.PatchTSMixerConfig(
            context_length=32, patch_length=8, patch_stride=8, num_input_channels=2, d_model=16, num_layers=2,
            prediction_length=4,
        )  # fmt: skip
        return Mixed(hf.PatchTSMixerForPrediction(config)), torch.randn(2, 32, 2)
    x = torch.randint(1, 99, (2, 7)) if name in ("bert", "roberta", "albert", "distilbert", "llama", "gpt2") else None
    side = 64 if name in ("convnext", "segformer") else 32
    return Logits(builders[name]()), torch.randn(2, 3, side, side) if x is None else x


class Mixed(nn.Module):
    """A mixer for time series that returns its prediction."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction (batch, steps, series)."""
        prediction: Tensor = self.network(past_values=x).prediction_outputs
        return prediction


def from_timm(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network of timm and a batch of two."""
    import timm

    fixed = any(word in name for word in ("vit", "deit", "swin", "mixer", "resmlp", "levit"))
    side = 224 if name.startswith("levit") or "swin" in name else 64
    options = {"img_size": side} if fixed and not name.startswith("levit") else {}
    return timm.create_model(name, num_classes=10, **options), torch.randn(2, 3, side, side)


def from_torchvision(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network of torchvision and a batch of two."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    side = SIDE.get(name, 64)
    return models.get_model(name, num_classes=10, **options), torch.randn(2, 3, side, side)


def small_torchvision() -> list[str]:
    """Return torchvision's classification networks of at most 31 million parameters."""
    names = models.list_models(module=models)
    return [n for n in names if models.get_model_weights(n).DEFAULT.meta["num_params"] <= LARGEST]  # type: ignore[attr-defined]


SOURCES = {
    "torchvision": (small_torchvision, from_torchvision),
    "timm": (lambda: TIMM if importlib.util.find_spec("timm") else [], from_timm),
    "transformers": (lambda: TRANSFORMERS if importlib.util.find_spec("transformers") else [], from_transformers),
}


def row_of(source: str, name: str) -> dict[str, str]:
    """Return what the judge says of one network."""
    torch.manual_seed(0)
    network, x = SOURCES[source][1](name)
    row = {"source": source, "network": name, "verdict": "", "seconds": "", "narrowest": "", "whole": "", "reason": ""}
    try:
        started = time.process_time()
        model = SlimmableModel(network, WIDTHS, x[:1])
        row["seconds"] = f"{time.process_time() - started:.2f}"
        row["narrowest"] = f"{model.plan(WIDTHS[-1]).numel() / model.plan(1.0).numel():.3f}"
        row["whole"] = str(len(model.structure.whole))
        row["reason"] = next(iter(f"{layer}: {why}" for layer, why in model.structure.whole.items()), "")[:200]
        fault = fault_of(network, x, WIDTHS, zeros=name not in OVER_THOSE_LEFT, rtol=1e-3)
        row["verdict"] = f"wrong: {fault}" if fault else "right"
    except InputError as error:
        row |= {"verdict": "refused", "reason": str(error)[:300]}
    except Exception as error:
        row["verdict"] = f"wrong: {type(error).__name__}: {str(error)[:200]}"
    return row


def main(words: list[str], out: Path) -> int:
    """Print a row for each network that has none yet; return 1 if one is wrong."""
    warnings.simplefilter("ignore")
    done = list(csv.DictReader(out.open())) if out.exists() else []
    known = {(row["source"], row["network"]) for row in done}
    with out.open("a", newline="") as file:
        writer = None
        for source, (list_names, _) in SOURCES.items():
            for name in list_names():
                if (source, name) in known or (words and source not in words and name not in words):
                    continue
                row = row_of(source, name)
                writer = writer or csv.DictWriter(file, list(row))
                if not done:
                    writer.writeheader()
                done.append(row)
                writer.writerow(row)
                file.flush()
                print(f"{source:13}{name:32}{row['verdict']:10} {row['seconds']:>7} s {row['reason'][:80]}", flush=True)
    verdicts = [row["verdict"].split(":")[0] for row in done]
    print({verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))})
    return int("wrong" in verdicts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/zoo.csv"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sys.exit(main(arguments.names, arguments.out))
