"""Large freed blocks are reused: counted by page faults, in a process of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")
FAULTS = """
import resource, sys
import numpy as np
from wsol.process_memory import keep_large_blocks
if sys.argv[1] == "keep":
    assert keep_large_blocks()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**26, np.uint8)
before = faults()
for _ in range(10):
    np.ones(2**26, np.uint8)
print(faults() - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_a_large_block_is_reused():
    assert page_faults("keep") < page_faults("default") / 5
