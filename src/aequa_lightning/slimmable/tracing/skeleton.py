"""Skeletons: modules in the shapes of a narrow width whose parameters are on the meta device.

A skeleton is a copy of the full network whose size attributes (``out_channels``, ``num_heads`` ...) match the narrow
shapes. It computes with tensors that are put in place for one forward.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.plan import SlicePlan


def check_plain(module: nn.Module) -> None:
    """Raise an InputError for modules that are no Python code or have no parameters yet."""
    for name, part in module.named_modules():
        layer = f"layer {name!r}" if name else f"the {type(part).__name__}"
        if isinstance(part, torch.jit.ScriptModule):
            raise InputError(f"network: {layer} is TorchScript, which cannot be cut; give what it was made from")
        if any(map(is_lazy, [*part.parameters(recurse=False), *part.buffers(recurse=False)])):
            raise InputError(f"network: {layer} has no parameters yet; run the network on an input first")


def meta_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose floating-point parameters and buffers are on the meta device.

    Integer buffers (index tables, masks) keep their values, because control flow may depend on them.

    Raises:
        InputError: When the module cannot be copied.
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        blank = torch.empty_like(buffer, device="meta") if buffer.is_floating_point() else buffer.cpu().clone()
        memo[id(buffer)] = blank
    try:
        return _deepcopy(module, memo)
    except Exception as error:
        raise InputError(f"network: it cannot be copied, {type(error).__name__}: {error}") from error


def narrow_copy(
    skeleton: nn.Module,
    plan: SlicePlan,
    heads: Mapping[str, tuple[int, int]],
    normed: Mapping[str, int],
    unchanged: Set[str] = frozenset(),
) -> nn.Module:
    """Return a skeleton in the shapes of a plan.

    Args:
        skeleton: The full network's skeleton.
        plan: Covers the parameters and buffers.
        heads: The number of heads, full and narrow, of modules that compute attention, by module name.
        normed: The number of channels of modules that norm over them, by module name.
        unchanged: Names of user-written modules whose size attributes stay those of the full network.
    """
    memo: dict[int, Any] = {}
    for name, tensor in [*skeleton.named_parameters(), *skeleton.named_buffers()]:
        if not tensor.is_meta:
            continue
        blank = torch.empty(plan.shapes[name], dtype=tensor.dtype, device="meta")
        memo[id(tensor)] = nn.Parameter(blank, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else blank
    narrow = _deepcopy(skeleton, memo)
    for (name, module), full in zip(narrow.named_modules(), skeleton.modules(), strict=True):
        if name in heads:
            before, after = heads[name]
            for key in _HEADS:
                if module.__dict__.get(key) == before:
                    setattr(module, key, after)
        if name in normed:
            _set_normed(module, full, normed[name])
        resize = next((resize for kind, resize in _RESIZE.items() if isinstance(module, kind)), None)
        if resize is not None:
            resize(module, full)
        elif name not in unchanged:
            _set_sizes(module, _SIZES, _changes(full, module))
    return narrow


def _set_normed(module: Any, full: Any, channels: int) -> None:
    """Set the number of channels of a norm, which need not have parameters of that size."""
    if isinstance(module, nn.GroupNorm):
        module.num_groups = max(1, channels * full.num_groups // full.num_channels)
        module.num_channels = channels
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
        module.normalized_shape = (channels,)


def _changes(full: nn.Module, narrow: nn.Module) -> dict[int, int]:
    """Return the narrow size by full size of the parameters inside a module, where it is unambiguous."""
    found: dict[int, set[int]] = {}
    for before, after in zip(full.parameters(), narrow.parameters(), strict=True):
        for size, new in zip(before.shape, after.shape, strict=True):
            found.setdefault(size, set()).add(new)
    return {size: news.pop() for size, news in found.items() if len(news) == 1}


def has_size_attributes(module: nn.Module) -> bool:
    """Return whether a user-written module has size attributes that depend on the width."""
    return not isinstance(module, tuple(_RESIZE)) and any(isinstance(module.__dict__.get(key), int) for key in _SIZES)


def _set_sizes(module: nn.Module, names: Sequence[str], changes: Mapping[int, int]) -> None:
    """Set the size attributes of a user-written module."""
    for name in names:
        size = module.__dict__.get(name)  # not a property, which follows by itself
        if isinstance(size, int) and size in changes:
            setattr(module, name, changes[size])


def filled_copy(skeleton: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return an ordinary module: the skeleton with the given parameters and buffers, which it then owns.

    Args:
        skeleton: Any skeleton.
        tensors: A tensor for each of its parameters and buffers, by name.
    """
    memo: dict[int, Any] = {}
    for name, parameter in skeleton.named_parameters():
        memo[id(parameter)] = nn.Parameter(tensors[name], parameter.requires_grad)
    for name, buffer in skeleton.named_buffers():
        memo[id(buffer)] = tensors[name]
    return _deepcopy(skeleton, memo)


class SkeletonRunner:
    """Calls a skeleton with tensors that are put in place for one forward.

    It does what ``torch.func.functional_call`` does, without that function's bookkeeping on every call.

    Args:
        skeleton: A narrow skeleton.
        full: The network it belongs to; its modules say which parts compute as in training.
    """

    def __init__(self, skeleton: nn.Module, full: nn.Module) -> None:
        self.module = skeleton
        names = {id(tensor): name for name, tensor in [*skeleton.named_parameters(), *skeleton.named_buffers()]}
        stores: list[dict[str, Any]] = [s for part in skeleton.modules() for s in (part._parameters, part._buffers)]
        self._slots = [
            (store, key, names[id(tensor)], tensor)
            for store in stores
            for key, tensor in store.items()
            if tensor is not None
        ]
        self._twins = list(zip(skeleton.modules(), full.modules(), strict=True))
        self._recurrent = [part for part in skeleton.modules() if isinstance(part, nn.RNNBase)]

    def __call__(self, x: Any, tensors: Mapping[str, Tensor | None], run: Callable[[Any], Any] | None = None) -> Any:
        """Compute with the given parameters and buffers, by name.

        Args:
            x: The input.
            tensors: By name; None: the skeleton computes without that tensor.
            run: A compiled form of the skeleton to call instead.
        """
        for part, twin in self._twins:
            if part.training is not twin.training:
                part.training = twin.training
        try:
            for store, key, name, _ in self._slots:
                store[key] = tensors[name]
            self._refresh()
            return (self.module if run is None else run)(x)
        finally:
            for store, key, _, blank in self._slots:
                store[key] = blank
            self._refresh()

    def _refresh(self) -> None:
        for part in self._recurrent:
            part._flat_weights = [part._parameters[name] for name in part._flat_weights_names]


_HEADS = ("num_heads", "n_heads", "n_head", "nhead", "heads", "num_attention_heads")
_SIZES = """
    hidden_dim embed_dim hidden_size d_model dim attn_dim inner_dim num_features hidden_features all_head_size
    split_size channels num_channels in_channels out_channels in_features out_features width nf nx
""".split()  # noqa: SIM905


def _deepcopy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    duplicate = copy.deepcopy(module, memo)
    for part in duplicate.modules():
        if isinstance(part, nn.RNNBase):
            part._init_flat_weights()  # holds weak references, which a deep copy leaves on the old weights
    return duplicate


def _conv(module: Any, full: Any) -> None:
    rows, columns = module.weight.shape[:2]
    per_group = full.out_channels // full.groups
    module.groups = 1 if full.groups == 1 else rows // per_group
    module.out_channels, module.in_channels = rows, columns * module.groups


def _transposed_conv(module: Any, full: Any) -> None:
    rows, columns = module.weight.shape[:2]
    per_group = full.in_channels // full.groups
    module.groups = 1 if full.groups == 1 else rows // per_group
    module.in_channels, module.out_channels = rows, columns * module.groups


def _linear(module: Any, full: Any) -> None:
    module.out_features, module.in_features = module.weight.shape


def _channel_norm(module: Any, full: Any) -> None:
    tensor = module.weight if module.affine else module.running_mean
    if tensor is not None:
        module.num_features = len(tensor)


def _layer_norm(module: Any, full: Any) -> None:
    if module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


def _recurrent(module: Any, full: Any) -> None:
    rows, columns = module.weight_hh_l0.shape
    gates = full.weight_hh_l0.shape[0] // full.hidden_size
    module.hidden_size, module.input_size = rows // gates, module.weight_ih_l0.shape[1]
    if full.proj_size:
        module.proj_size = columns


def _cell(module: Any, full: Any) -> None:
    module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]


def _bilinear(module: Any, full: Any) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def _attention(module: Any, full: Any) -> None:
    module.embed_dim = module.out_proj.weight.shape[1]
    module.num_heads = module.embed_dim // full.head_dim
    if module.in_proj_weight is None:
        module.kdim, module.vdim = module.k_proj_weight.shape[1], module.v_proj_weight.shape[1]
    else:
        module.kdim = module.vdim = module.embed_dim


def _embedding(module: Any, full: Any) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


def _prelu(module: Any, full: Any) -> None:
    module.num_parameters = math.prod(module.weight.shape)


_RESIZE: dict[type[nn.Module], Callable[[Any, Any], None]] = {
    nn.modules.conv._ConvTransposeNd: _transposed_conv,
    nn.modules.conv._ConvNd: _conv,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _channel_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _cell,
    nn.Bilinear: _bilinear,
    nn.MultiheadAttention: _attention,
    nn.PReLU: _prelu,
}
