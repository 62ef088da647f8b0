import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_whose_parent_has_died_already_ends_at_once(number):
    code = "import time; from cepcli.child_processes import end_with_parent;"
    wrong = f"end_with_parent(2**22 + 1, {int(number)}); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code + wrong], check=False).returncode == -number


def test_a_child_goes_on_beside_its_parent():
    code = "import os; from cepcli.child_processes import end_with_parent;"
    right = "end_with_parent(os.getppid()); print('here')"
    done = subprocess.run([sys.executable, "-c", code + right], capture_output=True, check=True)
    assert done.stdout == b"here\n"
