"""one_blas_thread: the number before comes back, whatever happens inside and whoever else computes or forks."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zopog_ref.methods import METHODS
from zopog_ref.methods.blas_threads import one_blas_thread
from zopog_ref.methods.catcma import CatCMA, MixedSearch
from zopog_ref.methods.cma_es import CmaEs

threadpoolctl = pytest.importorskip("threadpoolctl", reason="it is in the methods extra")


def counts() -> set[int]:
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    """Three threads outside, on any machine."""
    np.linalg.eigh(np.eye(2))
    with threadpoolctl.threadpool_limits(3, "blas"):
        if counts() != {3}:
            pytest.skip("threadpoolctl does not know this BLAS")
        yield


def test_one_inside_and_the_number_before_outside() -> None:
    with one_blas_thread():
        with one_blas_thread():
            assert counts() == {1}
        assert counts() == {1}
    assert counts() == {3}
    with pytest.raises(np.linalg.LinAlgError), one_blas_thread():
        np.linalg.inv(np.zeros((2, 2)))
    assert counts() == {3}


def test_threads_come_in_one_after_the_other() -> None:
    """If the second came in before the first was out, it would put back the first one's single thread."""
    order, entered = [], threading.Event()

    def first() -> None:
        with one_blas_thread():
            entered.set()
            time.sleep(0.2)
            order.append(1)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(20)
    with one_blas_thread():
        order.append(2)
        thread.join()
    assert order == [1, 2]
    assert counts() == {3}


def test_a_limit_of_another_thread_does_not_stand_in_the_way() -> None:
    """The fixture's, of this thread: threadpoolctl leaves OpenBLAS to the thread that set a limit first."""
    seen: list[set[int]] = []

    def search() -> None:
        with one_blas_thread():
            seen.append(counts())
        seen.append(counts())

    for _ in range(2):
        thread = threading.Thread(target=search)
        thread.start()
        thread.join()
    assert seen == [{1}, {3}] * 2
    with one_blas_thread():
        assert counts() == {1}
    assert counts() == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_meanwhile_is_as_free_as_its_parent() -> None:
    """It waited for ever for a thread that it does not have, and BLAS kept one thread in it."""
    entered = threading.Event()

    def first() -> None:
        with one_blas_thread():
            entered.set()
            time.sleep(0.2)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(20)
    child = os.fork()
    if not child:
        outside = counts()
        with one_blas_thread():
            os._exit(0 if (outside, counts()) == ({3}, {1}) else 1)
    thread.join()
    end, status = time.monotonic() + 20, None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.02)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert status == 0
    others: list[set[int]] = []  # of another thread of this process, which waits for none either

    def second() -> None:
        with one_blas_thread():
            others.append(counts())

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    thread.join(20)
    assert others == [{1}]
    assert counts() == {3}


class Watched:
    """A strategy that notes how many threads BLAS has when it is used."""

    def __init__(self, strategy: Any) -> None:
        self.strategy, self.seen = strategy, []

    def __getattr__(self, name: str) -> Any:
        self.seen.append((name, counts()))
        return getattr(self.strategy, name)


@pytest.mark.parametrize("name", ["bbt", "catcma"])
def test_strategies_compute_inside(name: str) -> None:
    for package in METHODS[name].packages:
        pytest.importorskip(package, reason="it is in the methods extra")
    search: Any
    if name == "bbt":
        search = CmaEs(4, 1.0, 6, seed=1)
    else:
        search = MixedSearch((2, 3, 4), CatCMA.Settings(popsize=6), 1, np.zeros((0, 6)))
    watched = search._strategy = Watched(search._strategy)
    search.ask()
    search.tell(np.arange(6.0))
    assert {used for used, _ in watched.seen} == {"ask", "tell"}
    assert all(found == {1} for _, found in watched.seen)
