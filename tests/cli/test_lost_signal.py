"""A signal whose exception is lost comes again."""

import subprocess
import sys

CODE = """
import os, signal, time
from relabel.cli import signals
signals._AT_ONCE, signals._AGAIN = 0.1, 0.3
with signals.ending_on_signals():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    except SystemExit:
        pass  # as in a finalizer
    time.sleep(60)
"""


def test_a_signal_that_was_lost_comes_again():
    ran = subprocess.run([sys.executable, "-c", CODE], timeout=30, capture_output=True, check=False)
    assert ran.returncode == 128 + 15
