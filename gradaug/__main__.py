"""``python -m gradaug``: the command ``gradaug``, by its registered name, since the library does not import ``cli``."""

from importlib.metadata import entry_points

from gradaug.signals import follow_launcher

if __name__ == "__main__":
    follow_launcher()
    (command,) = entry_points(group="console_scripts", name="gradaug")
    command.load()()
