"""Restricting what a width cuts: named layers only, such as the ranks of adapters."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel

RANK = 8


class Adapted(nn.Module):
    """A frozen linear layer with a low-rank adapter beside it."""

    def __init__(self, inputs: int, outputs: int, rank: int = RANK) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + 2 * self.lora_B(self.lora_A(x))
        return out


def network(rank: int = RANK) -> nn.Sequential:
    return nn.Sequential(Adapted(6, 10, rank), nn.ReLU(), Adapted(10, 4, rank))


def test_only_the_named_axes_are_cut() -> None:
    torch.manual_seed(0)
    full, x = network(), torch.randn(5, 6)
    slim = SlimmableModel(full, [1, 0.25], x, only=["*lora_A"])
    assert [axis.name for axis in slim.structure.axes] == ["0.lora_A", "2.lora_A"]
    shapes = slim.plan(0.25).shapes
    whole = dict(full.named_parameters())
    for name, shape in shapes.items():
        cut = name.split(".")[1]
        expected = {"lora_A": (2, whole[name].shape[-1]), "lora_B": (whole[name].shape[0], 2)}
        assert shape == expected.get(cut, whole[name].shape)
    # An independent construction at that rank computes the same bits.
    narrow = network(rank=2)
    narrow.load_state_dict({name: whole[name][tuple(map(slice, shape))] for name, shape in shapes.items()})
    assert torch.equal(slim(x, width=0.25), narrow(x))
    assert torch.equal(slim.extract(0.25)(x), narrow(x))


def test_other_layers_that_stay_whole_are_no_reason_to_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SlimmableModel(network(), [1, 0.5], torch.zeros(1, 6), only=["2.lora_A"])


def test_a_pattern_that_names_nothing_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=r"only: 'lora_C' names no layer .*0\.lora_A"):
        SlimmableModel(network(), [1, 0.5], torch.zeros(1, 6), only=["*lora_A", "lora_C"])


def _models() -> dict[str, tuple[Any, Any, Tensor]]:
    """Return small networks of transformers without any download, with the layers to adapt and an input."""
    transformers = pytest.importorskip("transformers")
    words, images = torch.randint(0, 50, (2, 7)), torch.randn(2, 3, 16, 16)
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    small: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, **heads}
    vit = transformers.ViTConfig(hidden_size=32, image_size=16, patch_size=4, **heads)
    gpt2 = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    distilled = transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    llama, classify = transformers.LlamaForCausalLM, "ForSequenceClassification"
    return {
        "bert": (getattr(transformers, f"Bert{classify}")(transformers.BertConfig(**small)), ["query", "value"], words),
        "vit": (transformers.ViTForImageClassification(vit), "all-linear", images),
        "llama": (
            llama(transformers.LlamaConfig(num_key_value_heads=4, **small)), ["q_proj", "v_proj"], words
        ),
        "llama with grouped queries": (
            llama(transformers.LlamaConfig(num_key_value_heads=2, **small)), "all-linear", words
        ),
        "gpt2": (transformers.GPT2LMHeadModel(gpt2), ["c_attn", "c_fc"], words),
        "distilbert": (getattr(transformers, f"DistilBert{classify}")(distilled), ["q_lin", "v_lin"], words),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
@pytest.mark.parametrize("name", ["bert", "vit", "llama", "llama with grouped queries", "gpt2", "distilbert"])
@pytest.mark.filterwarnings("ignore")
def test_a_width_computes_what_peft_computes_at_that_rank(name: str, kind: str) -> None:
    peft = pytest.importorskip("peft")
    base, targets, x = _models()[name]
    options: dict[str, Any] = {"target_modules": targets}
    options |= {"use_rslora": kind == "rslora", "use_dora": kind == "dora"}
    torch.manual_seed(0)
    full = peft.get_peft_model(base, peft.LoraConfig(r=RANK, lora_alpha=16, init_lora_weights=False, **options))
    slim = SlimmableModel(full, [1, 0.5, 0.25], x, only=["*lora_A*"]).eval()
    for rank in (2, 4):
        # The scale stays that of the full rank.
        ratio = rank / RANK
        alpha = 16 * (math.sqrt(ratio) if kind == "rslora" else ratio)
        fresh = type(base)(base.config)
        own = peft.get_peft_model(fresh, peft.LoraConfig(r=rank, lora_alpha=alpha, **options)).eval()
        own.load_state_dict(slim.plan(ratio).extract(dict(full.named_parameters())), strict=False)
        with torch.no_grad():
            assert torch.equal(slim(x, width=ratio).logits, own(x).logits)
            assert torch.equal(slim.extract(ratio)(x).logits, own(x).logits)
