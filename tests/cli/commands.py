"""Run command lines one after the other: ``python -m tests.cli.commands '[["train", "seed=1"], ["eval", "run=out"]]'``.

Importing torch is what takes time in a process.
"""

import json
import sys

from wsol.cli import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        print("command", words[0], file=sys.stderr, flush=True)
        if code := main(words):
            sys.exit(code)
