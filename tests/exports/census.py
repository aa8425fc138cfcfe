"""Counts what a torch module computes while it runs, from torch's own calls: the check of counts.py.

Independent of the recogniser, which sees only the exported graph: it knows modules by class and functions by
identity, and a layer's products by the place of their weight in the module tree.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from exports.case import Case
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

TANH_GELUS = {"NewGELUActivation", "FastGELUActivation", "AccurateGELUActivation", "BloomGelu"}
LAYERNORMS = {"CohereLayerNorm", "DebertaLayerNorm"}
INSIDE = re.compile(r"\.(layers|layer|h|block|blocks|albert_layers)\.\d+\.(?!downsample)|\.attention_block\.")
"""Where in the module tree a transformer block's weights are."""
ROTATIONS = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")
PRODUCTS = {"linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "conv1d", "conv2d", "__matmul__", "einsum"}
"""Also the names as torch functions, which share them with the methods."""


class Census(TorchFunctionMode):
    """Counts functions; modules and rotations, which are no functions of torch, come by hooks and patches."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.kept: list[Tensor] = []
        self.muted = 0
        self.homes: dict[int, str] = {}
        self.sizes: dict[int, int] = {}
        for name, tensor in module.named_parameters(remove_duplicate=False):
            key = tensor.untyped_storage().data_ptr()
            self.homes.setdefault(key, f".{name}")
            self.sizes[key] = tensor.shape[0] if tensor.dim() else 1

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.muted:
            self.see(getattr(function, "__name__", ""), args, kwargs)
        with self.silence(function in COMPOSITE):
            result = function(*args, **kwargs)
        if function is torch.cat and all(self.home(part) for part in args[0]):
            key = result.untyped_storage().data_ptr()
            self.homes[key], self.sizes[key] = self.home(args[0][0]), 1
            self.kept.append(result)
        if function is Tensor.__getitem__ and (home := self.home(args[0])) and isinstance(args[1], Tensor):
            key = result.untyped_storage().data_ptr()  # matrices gathered by an index are still weights
            self.homes[key], self.sizes[key] = home, args[0].shape[0]
            self.kept.append(result)  # so that no other tensor gets its address
        return result

    def home(self, tensor: Tensor) -> str:
        """Where in the module tree the weight is that the tensor is (a part of), if it is one."""
        return self.homes.get(tensor.untyped_storage().data_ptr(), "")

    @contextmanager
    def silence(self, when: bool = True) -> Iterator[None]:
        self.muted += when
        try:
            yield
        finally:
            self.muted -= when

    def add(self, **counts: int) -> None:
        if not self.muted:
            self.counts.update(counts)

    def see(self, name: str, args: tuple, kwargs: dict) -> None:
        if name == "scaled_dot_product_attention":
            self.add(attention=1, softmax=1, matmul_dynamic=2)
        elif name == "multi_head_attention_forward":
            query, key, value = args[:3]
            fused = 1 if query is key and key is value else 2 if key is value else 3
            self.add(attention=1, softmax=1, matmul_dynamic=2)
            inside = INSIDE.search(self.home(args[5]))
            self.add(**{"linear" if inside else "other_linear": fused + 1})
        elif name == "softmax":
            self.add(softmax=1)
        elif name == "layer_norm":
            self.add(layernorm=1)
        elif name == "rms_norm":
            self.add(rmsnorm=1)
        elif name == "gelu":
            self.add(**{"gelu_tanh" if kwargs.get("approximate") == "tanh" else "gelu_erf": 1})
        elif name in ("silu", "relu"):
            self.add(**{name: 1})
        elif name in PRODUCTS:
            self.product(
                name, [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.dim() > 1]
            )

    def product(self, name: str, operands: list[Tensor]) -> None:
        if len(operands) < 2:  # positions times frequencies
            return
        weights = [operand for operand in operands if self.home(operand)]
        if not weights:
            self.add(matmul_dynamic=1)
            return
        stack = weights[-1].dim() > 2 and name in ("matmul", "bmm", "__matmul__")
        count = self.sizes[weights[-1].untyped_storage().data_ptr()] if stack else 1
        self.add(**{"linear" if INSIDE.search(self.home(weights[-1])) else "other_linear": count})


COMPOSITE = {F.multi_head_attention_forward, F.scaled_dot_product_attention}


def kind_of(module: nn.Module) -> str:
    """The count a module stands for, where torch has no function of its own for it."""
    name = type(module).__name__
    if name in TANH_GELUS:
        return "gelu_tanh"
    if name == "QuickGELUActivation":
        return "quick_gelu"
    if name in LAYERNORMS:
        return "layernorm"
    if "RMSNorm" in name or name == "T5LayerNorm":
        return "rmsnorm"
    return ""


@contextmanager
def watching(census: Census, module: nn.Module) -> Iterator[None]:
    """Hooks on modules, and patches of every model's rotation function, which always has the same name."""
    handles, patches = [], []

    def enter(module: nn.Module, *_: object) -> None:
        if kind := kind_of(module):
            census.add(**{kind: 1})
        census.muted += 1

    def leave(*_: object) -> None:
        census.muted -= 1

    for part in module.modules():
        if kind_of(part) or "RotaryEmbedding" in type(part).__name__:
            handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]

        if type(part).__name__ == "GptOssExperts":  # whose gate is spelled out
            handles.append(part.register_forward_hook(lambda *_: census.add(quick_gelu=1)))

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def rotate(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            census.add(rope=len(result) if isinstance(result, tuple) else 1)
            return result

        return rotate

    def gelu(function: Callable[..., Any]) -> Callable[..., Any]:
        def spelled_out(x: Tensor) -> Tensor:
            census.add(gelu_erf=1)
            return function(x)

        return spelled_out

    for name, loaded in list(sys.modules.items()):
        for rotation in ROTATIONS if name.startswith("transformers.models.") else ():
            if hasattr(loaded, rotation):
                patches.append(mock.patch.object(loaded, rotation, counted(getattr(loaded, rotation))))
        if name.endswith(".modeling_esm"):
            patches.append(mock.patch.object(loaded, "gelu", gelu(loaded.gelu)))
    for part in module.modules():
        if hasattr(part, method := "apply_rotary_position_embeddings"):
            patches.append(mock.patch.object(part, method, counted(getattr(part, method))))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
        for handle in handles:
            handle.remove()


def census(case: Case) -> dict[str, int]:
    """What one run of the case computes; `attention` only where torch's own attention is called."""
    counter = Census(case.module)
    with torch.no_grad(), watching(counter, case.module), counter:
        case.module(*case.inputs.values())
    return dict(counter.counts)
