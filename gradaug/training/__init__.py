"""The run: takes a network and settings, gives trained weights, figures and files that a resume continues from."""
