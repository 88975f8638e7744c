"""From YAML files and command lines to objects. Only this package and `wsol.cli` use Hydra."""
