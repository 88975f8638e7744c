"""`python -m wsol.cli`, the console script by another name: for torchrun, and for processes started by launchers."""

import sys

from wsol.cli import main

if __name__ == "__main__":
    sys.exit(main())
