"""Baselines and companions of GradAug: what is done to a batch or at a block, each by its name in the settings."""
