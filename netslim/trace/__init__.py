"""Follows a model's forward once: takes a model and example inputs, gives the program of each of its regions."""
