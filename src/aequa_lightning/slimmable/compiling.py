"""Compiled forms of the networks of a grid.

A compiled graph is bound to its shapes, so every width has a compiled form of its own, which borrows slices of the full
weights as the uncompiled skeleton does.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from aequa_lightning.errors import InputError


class Compiler:
    """Compiles each network when it is first needed; compiled forms are neither pickled nor copied.

    Args:
        networks: Largest number of networks to compile.
        device: Where they compute.
        options: Of ``torch.compile``.

    Raises:
        InputError: When nothing can be compiled here.
    """

    def __init__(self, networks: int, *, device: torch.device, options: dict[str, Any]) -> None:
        # By default the compiler would treat channel counts, which differ between widths, as one dynamic size.
        self._options = {"dynamic": False} | options
        self._forms: dict[tuple[int, ...], Callable[..., Any]] = {}
        self._try(device)
        # The limit counts per code object, which all widths share; batches of one sample are compiled separately.
        torch._dynamo.config.recompile_limit += 2 * networks

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_forms": {}}

    def compiled(self, network: nn.Module, sizes: tuple[int, ...]) -> Callable[[Any], Any]:
        """Return the compiled form of a network.

        Args:
            network: The full network or a skeleton.
            sizes: Channels that it keeps of each axis; they identify the network.

        Returns:
            Called with the input. One graph serves batches of all sizes.
        """
        if sizes not in self._forms:
            self._forms[sizes] = torch.compile(network, **self._options)
        form = self._forms[sizes]

        def run(x: Any) -> Any:
            for tensor in tree_leaves(x):
                if isinstance(tensor, Tensor) and tensor.ndim:
                    torch._dynamo.maybe_mark_dynamic(tensor, 0)
            return form(x)

        return run

    def _try(self, device: torch.device) -> None:
        try:
            torch.compile(lambda x: x + 1, **self._options)(torch.zeros(2, device=device))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"compile: torch.compile does not work here ({reason}); install what its backend needs, for CPUs a "
                "C++ compiler, or train without it"
            ) from error
