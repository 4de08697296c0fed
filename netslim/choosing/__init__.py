"""Which channels a smaller network keeps, and how many: importance, rankings, budgets of FLOPs, parameters and time."""
