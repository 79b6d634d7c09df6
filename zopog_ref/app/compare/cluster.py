"""The cells of a comparison as Ray tasks: on this machine, or on the cluster that RAY_ADDRESS names.

Every node must see the output folder, the tasks' files and the model at the same paths.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zopog_models.cluster.ray_connection import RayConnection
from zopog_ref.app.compare.cells import start_worker
from zopog_ref.app.output import say


class RayExecutor(ThreadPoolExecutor):
    """Runs functions as Ray tasks of one core each, at most `workers` at once. A task is never repeated by Ray.

    A future whose worker died raises BrokenExecutor; the others go on.
    """

    def __init__(self, workers: int, log: Path, connection: RayConnection) -> None:
        super().__init__(workers)
        self._ray, self._log = connection.ray, str(log)
        # A worker process for each run: nothing of one can show in another.
        self._task = self._ray.remote(num_cpus=1, max_retries=0, max_calls=1)(_run)
        self._under_way: set[Any] = set()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As Executor.submit."""
        return super().submit(self._ask, function, arguments, named)

    def stop_at_once(self) -> None:
        """End the tasks that run."""
        for reference in list(self._under_way):
            self._ray.cancel(reference, force=True)

    def _ask(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        errors = self._ray.exceptions
        reference = self._task.remote(self._log, function, arguments, named)
        self._under_way.add(reference)
        try:
            return self._ray.get(reference)
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.OutOfMemoryError,
        ) as death:
            raise BrokenExecutor(str(death)) from death
        except errors.TaskCancelledError as stopped:
            raise BrokenExecutor("stopped at once") from stopped
        except errors.RayTaskError as error:
            raise (error.cause or error) from None
        finally:
            self._under_way.discard(reference)


def _run(log: str, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    start_worker(log)
    return function(*arguments, **named)


@contextmanager
def ray_tasks(workers: int, log: Path) -> Iterator[Executor]:
    """Ray tasks; a cluster that was started for them ends with them."""
    with RayConnection(cpus=workers, notify=say) as connection:
        pool = RayExecutor(workers, log.resolve(), connection)
        try:
            yield pool
        except BaseException:
            pool.stop_at_once()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
