"""Child processes that do not outlive the process that started them, whatever kills it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Get signal `number` when the process that started this one dies; to be called by the child.

    Only Linux sends it; elsewhere only a parent that has died already is noticed. To Linux the
    parent is the *thread* that started the child, so it must live for as long as the child is
    needed.

    Args:
        parent: its process id, which tells whether it still lives.
        number: of the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), number)
