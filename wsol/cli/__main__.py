"""`python -m wsol.cli`: the console script as a module, for torchrun and processes started by launchers."""

import sys

from wsol.cli import main

if __name__ == "__main__":
    sys.exit(main())
