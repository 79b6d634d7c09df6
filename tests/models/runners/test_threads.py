"""The pool of threads, and a process that is forked after it was used."""

import os
import signal

import pytest

from zopog_models.runners.threads import Threads


def _doubled(threads: Threads) -> list[int]:
    found: dict[int, int] = {}
    threads.run_all(lambda i: found.__setitem__(i, 2 * i), range(8))
    return [found[i] for i in range(8)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    """A server that loads the model, answers once and then forks: its children hung for ever without this."""
    threads = Threads(2)
    assert _doubled(threads) == list(range(0, 16, 2))
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs is killed, and the test fails
        right = _doubled(threads) == list(range(0, 16, 2))
        threads.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _doubled(threads) == list(range(0, 16, 2))
    threads.close()
    assert _doubled(threads) == list(range(0, 16, 2))
