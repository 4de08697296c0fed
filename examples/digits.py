"""scikit-learn's digits as ordinary data sets of torch, for the examples: 1437 images to train on, 360 to validate."""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from gradaug import data


def datasets() -> tuple[TensorDataset, TensorDataset]:
    """Images (1, 32, 32), standardised, and class numbers."""
    source = data.load("digits", shape=(1, 32, 32))
    training, validation = (
        TensorDataset(*next(iter(data.evaluation_batches(part, len(part)))))
        for part in (source.calibration, source.validation)
    )
    return training, validation


def loaders(batch_size: int = 32, distributed: bool = False) -> tuple[DataLoader, DataLoader]:
    """`distributed`: every process of the group reads images of its own to train on."""
    training, validation = datasets()
    sampler = DistributedSampler(training, drop_last=True) if distributed else None
    shuffled = DataLoader(training, batch_size, shuffle=sampler is None, sampler=sampler, drop_last=True)
    return shuffled, DataLoader(validation, 256)
