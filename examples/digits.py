"""scikit-learn's digits as ordinary data sets of torch, for the examples: 1437 images to train on, 360 to validate."""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset

from gradaug import data


def datasets() -> tuple[TensorDataset, TensorDataset]:
    """Images (1, 32, 32), standardised, and class numbers."""
    source = data.load("digits", shape=(1, 32, 32))
    training, validation = (
        TensorDataset(*next(iter(data.evaluation_batches(part, len(part)))))
        for part in (source.calibration, source.validation)
    )
    return training, validation


def loaders(batch_size: int = 32) -> tuple[DataLoader, DataLoader]:
    training, validation = datasets()
    return DataLoader(training, batch_size, shuffle=True, drop_last=True), DataLoader(validation, 256)
