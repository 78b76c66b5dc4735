"""Which networks differ in their weights alone: only these can be trained by one tensor operation for all.

What a module keeps beside parameters and buffers, such as a factor of its output, would otherwise be taken from one network for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import CodeType, FunctionType
from typing import TypeVar

import torch

TOGETHER_NUMBERS, MOST_TOGETHER = 2**22, 64
"""Weights of the networks that are trained together, at most: the handful of arrays of that size should stay in the cache. And networks."""
_JobT = TypeVar("_JobT", bound=Hashable)
_OF_TORCH = frozenset(vars(torch.nn.Module()))
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, CodeType)


def groups(networks: Mapping[_JobT, torch.nn.Module]) -> list[list[_JobT]]:
    """Jobs whose networks differ in their parameters and buffers alone, together."""
    found: dict[Hashable, list[_JobT]] = {}
    for job, network in networks.items():
        found.setdefault(signature(network), []).append(job)
    return list(found.values())


def chunks_of(networks: Mapping[_JobT, torch.nn.Module]) -> list[list[_JobT]]:
    """Jobs whose networks can be trained together, in parts that fit into caches."""
    found = []
    for group in groups(networks):
        size = sum(part.numel() for part in networks[group[0]].parameters())
        most = max(1, min(MOST_TOGETHER, TOGETHER_NUMBERS // max(size, 1)))
        found += [group[start : start + most] for start in range(0, len(group), most)]
    return found


def signature(network: torch.nn.Module) -> Hashable:
    """What two networks have in common if they differ in their parameters and buffers alone."""
    parts = tuple((name, type(module), _attributes(module)) for name, module in network.named_modules())
    tensors = (*network.named_parameters(), *network.named_buffers())
    return parts, tuple((name, part.shape, part.dtype, part.requires_grad) for name, part in tensors)


def _attributes(module: torch.nn.Module) -> Hashable:
    own = {name: value for name, value in vars(module).items() if name not in _OF_TORCH or name == "training"}
    hooks = [value for name, value in vars(module).items() if name.endswith("_hooks") and value]
    return _of(own), tuple(id(hook) for hook in hooks)


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _of(value: object, within: tuple[int, ...] = ()) -> Hashable:
    """Something equal for values that are known to be the same, and for no others; ``within`` is where it stands, as ids."""
    if isinstance(value, _PLAIN):
        return type(value), value, str(value) if isinstance(value, float) else ""  # -0.0 == 0.0
    within = (*within, id(value))
    if id(value) in within[:-1]:
        return "itself", within.index(id(value))
    if isinstance(value, list | tuple):
        return type(value), tuple(_of(part, within) for part in value)
    if isinstance(value, dict):
        return type(value), tuple((_of(key, within), _of(part, within)) for key, part in value.items())
    if isinstance(value, torch.Tensor):
        return torch.Tensor, value.shape, value.dtype, _bytes(value)
    if isinstance(value, FunctionType):
        try:
            cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        except ValueError:  # of a variable that has no value yet
            return "one object", id(value)
        held = (cells, value.__defaults__, value.__kwdefaults__, vars(value))
        return FunctionType, value.__code__, _of(held, within), id(value.__globals__)
    return "one object", id(value)
