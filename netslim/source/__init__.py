"""From what a person names (a file, a callable, a library's model) to a model, its weights and example inputs."""
