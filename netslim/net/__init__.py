"""The converted network: takes a plan and modules, runs at any width and depth, gives plain sub-networks."""
