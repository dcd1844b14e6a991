"""Where a full network comes from: a name, an import path, or a function, class or network given from Python."""

import copy
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from aequa_lightning.backbones.cnn import cnn, cnn3, mlp
from aequa_lightning.backbones.gpt import gpt
from aequa_lightning.backbones.loading import check_import
from aequa_lightning.backbones.text import bilstm, text_cnn
from aequa_lightning.backbones.unet import unet
from aequa_lightning.backbones.vision import mobilenet_v2, resnet18, resnet18_gn, vgg11, vit_tiny
from aequa_lightning.errors import InputError

Backbone = str | Callable[..., nn.Module]

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "cnn3": cnn3,
    "resnet18": resnet18,
    "resnet18_gn": resnet18_gn,
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
    "vit_tiny": vit_tiny,
    "bilstm": bilstm,
    "text_cnn": text_cnn,
    "unet": unet,
    "gpt": gpt,
}


@dataclass(frozen=True)
class NetworkSource:
    """What builds a full network, and the name that files record.

    Attributes:
        given: A name of ``BACKBONES``, an import path ``package.module:function``, a function or class that is called
            with the same arguments, or a network, of which every build is a copy.
    """

    given: Backbone

    @property
    def name(self) -> str:
        """A name of ``BACKBONES`` or an import path; in angle brackets what no import finds, such as ``<build>``."""
        if isinstance(self.given, str):
            return self.given
        if isinstance(self.given, nn.Module):
            return f"<{type(self.given).__name__}>"
        for name, factory in BACKBONES.items():
            if factory is self.given:
                return name
        function = str(getattr(self.given, "__name__", type(self.given).__name__))
        module = str(getattr(self.given, "__module__", "__main__"))
        if module != "__main__" and getattr(sys.modules.get(module), function, None) is self.given:
            return f"{module}:{function}"
        return f"<{function.strip('<>')}>"

    @property
    def is_importable(self) -> bool:
        """Whether the name suffices to build the network in another process."""
        return not self.name.startswith("<")

    def build(self, *, num_classes: int, input_shape: tuple[int, ...], **options: Any) -> nn.Module:
        """Return a fresh network.

        Args:
            num_classes: Outputs of the network, >= 1.
            input_shape: Shape of one sample, without the batch.
            **options: Further arguments of the function.

        Raises:
            InputError: There is no such function, it raises an error or returns no network, or a network is given that
                takes no options or cannot be copied.
        """
        if isinstance(self.given, nn.Module):
            return self._copied(self.given, options)
        factory = self._imported(self.given) if isinstance(self.given, str) else self.given
        if not callable(factory):
            raise InputError(
                f"model.backbone={self.given!r} is no function; give a name, a function that returns a torch.nn.Module,"
                " or the network itself."
            )
        try:
            network = factory(num_classes=num_classes, input_shape=input_shape, **options)
        except InputError:
            raise
        except Exception as error:  # a function may run any code
            raise InputError(
                f"model.backbone={self.name!r} cannot be built with num_classes={num_classes}, input_shape="
                f"{input_shape} and the options {options}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise InputError(
                f"model.backbone={self.name!r} returns {type(network).__name__}; return a torch.nn.Module."
            )
        return network

    def _copied(self, network: nn.Module, options: dict[str, Any]) -> nn.Module:
        # What the data say is checked by the shape of the outputs.
        if given := sorted(set(options) - {"vocabulary_size"}):
            raise InputError(
                f"model.backbone_options: {given[0]} is for a function, but model.backbone is a network; leave it out,"
                " or give the function that builds the network."
            )
        try:
            return copy.deepcopy(network)
        except Exception as error:  # a network may hold anything
            raise InputError(
                f"model.backbone={self.name!r} cannot be copied ({type(error).__name__}: {error}); give the function"
                " that builds it."
            ) from error

    def _imported(self, name: str) -> Callable[..., nn.Module]:
        """Return a function by its name or import path."""
        if name in BACKBONES:
            return BACKBONES[name]
        if name.startswith("<"):
            raise InputError(
                f"model.backbone={name!r} was given from Python, and files hold its name only; give it again: backbone="
                f"{name.strip('<>')}"
            )
        module, colon, function = name.partition(":")
        if not colon:
            raise InputError(
                f"backbone: {name!r} is unknown; choose one of {', '.join(BACKBONES)}, "
                "or name a function of your own as 'package.module:function'"
            )
        check_import(name)
        try:
            found = getattr(importlib.import_module(module), function)
        except Exception as error:  # an import may run any code
            missing = isinstance(error, ModuleNotFoundError) and error.name == module
            hint = "; if it is in this folder, put PYTHONPATH=. before the command" if missing else ""
            raise InputError(
                f"model.backbone={name!r} cannot be imported: {type(error).__name__}: {error}{hint}"
            ) from error
        if not callable(found):
            raise InputError(f"model.backbone={name!r} is no function; name one that returns a torch.nn.Module.")
        return found  # type: ignore[no-any-return]
