"""Several processes: starting them, exchanging gradients, figures and the statistics of batch norm."""
