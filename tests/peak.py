"""The memory that tensors take, wherever they are."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """The most bytes that tensors take at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, int] = {}
        self._now = self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **kwargs or {})
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self._live:
                self._live[storage._cdata] = storage.nbytes()
                self._now += storage.nbytes()
                self.bytes = max(self.bytes, self._now)
                weakref.finalize(storage, self._drop, storage._cdata)
        return out

    def _drop(self, storage: int) -> None:
        self._now -= self._live.pop(storage, 0)
