"""Work in a process that must die of it: a copy of this one, so that nothing is loaded again."""

import itertools
import multiprocessing
import os
import signal
import sys
import warnings

#: Seconds after which a process that has not died is a failure.
_PATIENCE = 120
#: What changes a disk, as Python's audit events call it; and the flags of an `open` that does.
_STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


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


def killed_at_every_step(tmp_path, prepare, work, check):
    """Kill `work(folder)` before its first, second, third … step on the disk, until it ends alive.

    A step is whatever opens a file to write, makes, renames, removes or syncs. Each time `folder`
    is made by `prepare(folder)`, and `check(folder)` looks at what the kill left.
    """
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        prepare(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            failed = 1
            try:
                _die_at(step)
                work(folder)
                failed = 0
            finally:
                os._exit(failed)
        _, status = os.waitpid(pid, 0)
        check(folder)
        if status == 0:
            assert step > 2, "hardly anything was done"
            return
        assert os.WIFSIGNALED(status), "it failed by itself"
        assert os.WTERMSIG(status) == signal.SIGKILL


def _die_at(step):
    """Have this process killed before the step of that number."""
    left = [step]

    def count():
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def audit(event, given):
        writes = event == "open" and isinstance(given[2], int) and given[2] & _WRITING
        if writes or event in _STEPS:
            count()

    def fsync(descriptor):
        count()
        synced(descriptor)

    synced, os.fsync = os.fsync, fsync
    sys.addaudithook(audit)
