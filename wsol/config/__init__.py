"""From YAML files and command lines to objects. Together with `wsol.cli` the only user of Hydra."""
