"""A signal that Python lost comes again."""

import subprocess
import sys

import pytest

FINALIZER = """
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
except SystemExit:
    pass  # as in a finalizer
time.sleep(60)
"""

# A signal that another thread takes does not wake the main thread, as one does not that comes in
# the instant before the main thread begins to wait.
LOCK = """
def strike():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)
threading.Thread(target=strike, daemon=True).start()
threading.Event().wait()
"""

CODE = """
import os, signal, sys, threading, time
from relabel.cli import signals
signals._AT_ONCE, signals._AGAIN = 0.1, 0.3
with signals.ending_on_signals():
    exec(sys.argv[1])
"""


@pytest.mark.parametrize("code", [FINALIZER, LOCK], ids=["finalizer", "lock"])
def test_a_signal_that_was_lost_comes_again(code):
    command = [sys.executable, "-c", CODE, code]
    ran = subprocess.run(command, timeout=30, capture_output=True, check=False)
    assert ran.returncode == 128 + 15, ran.stderr
