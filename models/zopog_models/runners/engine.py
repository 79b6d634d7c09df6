"""What computes one graph: a session here, OpenVINO, a server, a replica in a cluster."""

from typing import Protocol

import numpy as np

__all__ = ["Engine"]


class Engine(Protocol):
    """A graph that can be run, from several threads at once."""

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """One output of the graph for one chunk of rows."""
        ...
