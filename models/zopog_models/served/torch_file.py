"""A matrix in the file format of torch.save, written without PyTorch: what vLLM takes as `prompt_embeds`.

The file is a zip archive: archive/data.pkl, a pickle that rebuilds the tensor from a storage by its name, and
archive/data/0, the storage's bytes. The pickle is a constant but for its sizes, so it is written opcode by opcode;
nothing here reads one.
"""

import io
import zipfile

import numpy as np

__all__ = ["torch_matrix"]

_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is written


def torch_matrix(matrix: np.ndarray) -> bytes:
    """What torch.save writes of a float32 tensor with these numbers. Raises ValueError for another rank."""
    if matrix.ndim != 2:
        raise ValueError(f"a matrix was expected, got an array of shape {matrix.shape}")
    content = np.ascontiguousarray(matrix, "<f4")
    rows, columns = content.shape
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, part in (
            ("data.pkl", _pickle(rows, columns)), ("byteorder", b"little"), ("data/0", content.tobytes()),
            ("version", b"3\n"),
        ):  # fmt: skip
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", _DATE), part)
    return out.getvalue()


def _pickle(rows: int, columns: int) -> bytes:
    """_rebuild_tensor_v2(storage, offset 0, size, stride, requires_grad False, hooks OrderedDict()), protocol 2."""
    storage = (
        b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _int(rows * columns) + b"tQ"
    )
    size, stride = _int(rows) + _int(columns) + b"\x86", _int(columns) + _int(1) + b"\x86"
    hooks = b"ccollections\nOrderedDict\n)R"
    rebuilt = b"(" + storage + _int(0) + size + stride + b"\x89" + hooks + b"t"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"R."


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def _int(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)
