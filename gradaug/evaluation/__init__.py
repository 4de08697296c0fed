"""How well a network and its sub-networks do: scores, recalibration, attacks, corruptions."""
