"""Work in a process that must die of it: a copy of this one, so that nothing is loaded again."""

import multiprocessing
import signal
import warnings

#: Seconds after which a process that has not died is a failure.
_PATIENCE = 120


def killed(work, *given):
    """Do `work(*given)` in a process of its own, which SIGKILL must end."""
    process = multiprocessing.get_context("fork").Process(target=work, args=given)
    with warnings.catch_warnings():  # later Pythons warn of other threads; the copy has none
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    process.join(_PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError("it did not die by itself")
    assert process.exitcode == -signal.SIGKILL
