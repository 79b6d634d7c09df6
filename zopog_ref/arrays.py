"""Names of the array types that signatures use. A shape stands at the end of its line, as (n, N)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARRAY", "BOOL", "FLOAT32", "FLOAT64", "INT64", "UINT32"]

ARRAY = NDArray[Any]  # of any type
BOOL = NDArray[np.bool_]
FLOAT32 = NDArray[np.float32]
FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
UINT32 = NDArray[np.uint32]
