"""Which sub-networks a step trains, and what they see: takes a space and a step number, gives draws and images."""
