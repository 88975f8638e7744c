"""Hydra configs of wsol, shipped inside the wheel as `wsol.configs`. One folder is one group, one file is one choice."""
