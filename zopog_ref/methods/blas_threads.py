"""One thread of linear algebra for the evolution strategies, so that their points have the same bits everywhere.

The strategies are replayed from the losses told (`cma_es`, `catcma`). Eigenvectors by several threads of BLAS differ in
the last digits from those by one, so a run of d = 500 that was resumed on another number of cores would go on as
another run.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["one_blas_thread"]

_LIMIT = threading.RLock()  # the limit is the process's: one thread at a time, so that the number before is put back
if hasattr(os, "register_at_fork"):  # a child of another thread would keep the limit, and wait for the lock for ever
    os.register_at_fork(before=_LIMIT.acquire, after_in_parent=_LIMIT.release, after_in_child=_LIMIT.release)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS computes with one thread inside. Other threads wait to come in, and to fork, until this one is out.

    Errors: ImportError without threadpoolctl, which finds the BLAS in use. A BLAS that it does not know (Apple's
    Accelerate) keeps its own.
    """
    with _LIMIT:
        libraries = _libraries()
        for library in libraries.lib_controllers:
            # From 3.8 on a limit does nothing, and does not say so, while another thread (scikit-learn's) has set one.
            if take_over := getattr(library, "clear_controlling_thread", None):
                take_over(force=True)
        with libraries.limit(limits=1, user_api="blas"):
            yield


@cache
def _libraries() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise ImportError(
            'the number of BLAS threads is set by threadpoolctl: pip install "threadpoolctl>=3.5"'
        ) from error
    return ThreadpoolController()
