"""The commands `netslim` and `gradaug`. Installed as `netslim_cli`; no library module imports it."""
