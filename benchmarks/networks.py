"""The networks of the table, by name: torchvision's, small ones around torch's own layers, and some of timm's."""

import importlib.util

import torch
from torch import Tensor, nn
from torchvision import models

TORCHVISION = """
    resnet18 resnet34 resnet50 resnet101 wide_resnet50_2 resnext50_32x4d alexnet mobilenet_v2 mobilenet_v3_small
    mobilenet_v3_large densenet121 googlenet squeezenet1_1 efficientnet_b0 mnasnet1_0 regnet_y_400mf convnext_tiny
    swin_t shufflenet_v2_x1_0 inception_v3 vit_b_16 vgg11 vgg11_bn vgg16 vgg16_bn
""".split()  # noqa: SIM905
TORCH = ["torch:lstm", "torch:gru", "torch:attention", "torch:encoder", "torch:tied"]
TIMM = ["timm:resnet10t", "timm:convnext_atto", "timm:vit_tiny_patch16_224", "timm:mixer_s32_224"]
SIDE = {"inception_v3": 299, "vit_b_16": 224}


class Words(nn.Module):
    """A network over words around one of torch's layers, which predicts a word at each place."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 32)
        recurrent = {"lstm": nn.LSTM, "gru": nn.GRU}.get(layer)
        if recurrent is not None:
            self.layer = recurrent(32, 24, num_layers=2, bidirectional=True, batch_first=True)
        elif layer == "attention":
            self.layer = nn.MultiheadAttention(32, 4, batch_first=True)
        else:
            each = nn.TransformerEncoderLayer(32, 4, 48, dropout=0.0, batch_first=True)
            self.layer = nn.TransformerEncoder(each, 2, enable_nested_tensor=False)
        self.head = nn.Linear(48 if recurrent else 32, 50)
        if layer == "tied":
            self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, length, words) of token numbers (batch, length)."""
        x = self.words(tokens)
        y = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        logits: Tensor = self.head(y[0] if isinstance(y, tuple) else y)
        return logits


def all_names() -> list[str]:
    """Return the names of all networks that can be built here."""
    return TORCHVISION + TORCH + (TIMM if importlib.util.find_spec("timm") else [])


def build(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network with random weights, and a batch of two inputs.

    Args:
        name: A function of ``torchvision.models``, ``torch:LAYER`` or ``timm:MODEL``.
    """
    source, _, model = name.rpartition(":")
    network: nn.Module
    side = SIDE.get(name, 64)
    if source == "torch":
        return Words(model), torch.randint(0, 50, (2, 7))
    if source == "timm":
        import timm

        options = {} if model.startswith(("resnet", "convnext")) else {"img_size": side}
        network = timm.create_model(model, num_classes=10, **options)
    else:
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = getattr(models, name)(num_classes=10, **options)
    for parameter in network.parameters():
        if parameter.ndim > 1:  # wide enough that nothing dies on the way, and quicker than truncated normals
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return network, torch.randn(2, 3, side, side)
