"""Every setting of a run, once: name, type, range, meaning. Imports no torch."""
