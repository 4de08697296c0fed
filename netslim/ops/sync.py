"""Batch norm over the batches of all processes."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as sync_batch_norm  # noqa: N813 - as torch calls it

from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.norm import Maybe, SlimBatchNorm, shrink_features


class SlimSyncBatchNorm(SlimBatchNorm, nn.SyncBatchNorm):
    """Statistics over all processes where torch takes them, on accelerators; on the CPU those of this process."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None and x.device.type in _UNSYNCHRONISED:
            return nn.modules.batchnorm._BatchNorm.forward(self, x)
        return super().forward(x)

    def _normalised(
        self, x: Tensor, mean: Maybe, var: Maybe, weight: Maybe, bias: Maybe, training: bool, momentum: float
    ) -> Tensor:
        group = self.process_group or (dist.group.WORLD if dist.is_available() and dist.is_initialized() else None)
        size = 1 if group is None else dist.get_world_size(group)
        if not self.training or size == 1 or x.device.type in _UNSYNCHRONISED:
            return super()._normalised(x, mean, var, weight, bias, training, momentum)
        out: Tensor = sync_batch_norm.apply(x, weight, bias, mean, var, self.eps, momentum, group, size)
        return out


_UNSYNCHRONISED = ("cpu", "meta")

RULES: Rules = {}

MODULES: Modules = {nn.SyncBatchNorm: (SlimSyncBatchNorm, shrink_features)}

FITS: Fits = {}

EXAMPLES: Examples = {}
