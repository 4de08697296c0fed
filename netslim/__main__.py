"""`python -m netslim` is the command `netslim`, found by its registered name: the library does not import it."""

from importlib.metadata import entry_points

if __name__ == "__main__":
    (command,) = entry_points(group="console_scripts", name="netslim")
    command.load()()
