"""Hydra configs, shipped inside the wheel as `wsol.configs`: one folder is one group, one file is one choice."""
