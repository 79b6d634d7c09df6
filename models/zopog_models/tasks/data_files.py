"""Files of labelled texts, row by row: .tsv, .txt, .csv and .jsonl, each of them perhaps .gz, and .parquet.

What a file is, its name says; nothing is guessed from what it holds.
"""

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zopog_models.errors import RepeatedColumn, RepeatedKey, TaskError, UnusableFile
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.files.repeated_keys import parse_json
from zopog_models.files.untrusted import read_at_most, read_untrusted
from zopog_models.tasks.template import is_text

__all__ = ["columns_of", "read_task_text", "records"]

MAX_DATA_BYTES = 2_000_000_000
_PLACE = re.compile(r"#[1-9]\d*")  # a column of a file without a header
_KINDS = (".tsv", ".txt", ".csv", ".jsonl", ".parquet")
_DELIMITERS = {".tsv": "\t", ".txt": "\t", ".csv": ","}
_INSTEAD = {
    ".json": "write one object a line and call it .jsonl",
    ".xlsx": "save the sheet as .csv", ".xls": "save the sheet as .csv", ".ods": "save the sheet as .csv",
    ".arrow": "save it as .parquet", ".feather": "save it as .parquet",
    ".zip": "unpack it", ".bz2": "unpack it, or pack it with gzip", ".xz": "unpack it, or pack it with gzip",
    ".zst": "unpack it, or pack it with gzip",
}  # fmt: skip
_QUOTED_HINT = 'if fields stand between quote marks, say so: quoting = "double" in the task\'s TOML'


def columns_of(path: Path, wanted: Sequence[str], quoting: str = "") -> None:
    """See that a file's first row has these columns. Raises TaskError as `records`."""
    next(records(path, tuple(wanted), quoting), None)


def records(path: Path, columns: tuple[str, ...], quoting: str = "") -> Iterator[tuple[int, list[str]]]:
    """(line number, the values of the columns) for each row; the last column is the label's. quoting: see `Task`.

    Raises TaskError naming the file and the line: a kind of file that is not known, unreadable, empty, bad UTF-8, a
    column that is missing or there twice, a row of another length.
    """
    kind, packed = _kind_of(path)
    if kind == ".parquet":
        yield from _parquet(path, columns)
        return
    text = _text(path, _unpacked(path) if packed else _bytes(path))
    if kind == ".jsonl":
        # Split at \n only: U+2028 and its like are legal inside a JSON string.
        for line, raw in enumerate(text.split("\n"), start=1):
            if raw.strip():
                yield line, _json_values(path, line, raw, columns)
        return
    fields: Iterator[tuple[int, list[str]]]
    double = quoting == "double" or (quoting == "" and kind == ".csv")
    delimiter = _DELIMITERS[kind]
    if double:
        fields = _quoted_fields(path, text, delimiter)
    else:  # every quote mark is text
        fields = ((line, raw.rstrip("\r").split(delimiter)) for line, raw in enumerate(text.split("\n"), start=1))
    yield from _rows(path, fields, columns, double)


def read_task_text(path: Path, most: int) -> str:
    """The text of a task file. Raises TaskError: unreadable, no regular file, too large, empty, not UTF-8."""
    return _text(path, _bytes(path, most))


def _kind_of(path: Path) -> tuple[str, bool]:
    """(".tsv" or its like, whether it is packed by gzip)."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (["", *suffixes[:-1]] if packed else ["", *suffixes])[-1]
    if kind not in _KINDS or (packed and kind == ".parquet"):
        instead = f": {_INSTEAD[kind]}" if kind in _INSTEAD else ""
        raise TaskError(f"{path}: unknown kind of file {kind!r}; give .tsv, .csv or .jsonl (or .parquet){instead}")
    return kind, packed


def _bytes(path: Path, most: int = MAX_DATA_BYTES) -> bytes:
    try:
        return read_untrusted(path, most)
    except UnusableFile as error:
        raise TaskError(str(error)) from None


def _unpacked(path: Path) -> bytes:
    packed = _bytes(path)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = read_at_most(file, MAX_DATA_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path} is not gzip, or damaged: {error}") from None
    if len(content) > MAX_DATA_BYTES:
        raise TaskError(f"{path}: unpacked more than {MAX_DATA_BYTES} bytes, at most {MAX_DATA_BYTES} are allowed")
    return content


def _text(path: Path, content: bytes) -> str:
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        raise TaskError(f"{path} is empty")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskError(
            f"{path}, line {line}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def _rows(
    path: Path, fields: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], double: bool
) -> Iterator[tuple[int, list[str]]]:
    """Fields as rows of the wanted columns: the first line is the header, where columns are not numbered."""
    first = next(fields)
    if all(_PLACE.fullmatch(column) for column in columns):
        header = [f"#{place}" for place in range(1, len(first[1]) + 1)]
        fields = itertools.chain([first], fields)
    else:
        header = first[1]
    if not double and any("\r" in value for value in header):
        raise TaskError(f"{path}: its lines end in \\r alone, as on old Macs; save it with \\n or \\r\\n")
    _check_header(path, header, columns)
    places = [header.index(column) for column in columns]
    for line, values in fields:
        if values in ([], [""]):  # an empty line
            continue
        if len(values) != len(header):
            hint = f"; {_QUOTED_HINT}" if not double and any('"' in value for value in values) else ""
            raise TaskError(f"{path}, line {line}: {len(values)} fields, the header has {len(header)}{hint}")
        yield line, [values[place] for place in places]


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    if missing := [column for column in dict.fromkeys(columns) if column not in header]:
        hint = f"; {_QUOTED_HINT}" if any(f'"{column}"' in header for column in missing) else ""
        raise TaskError(
            f"{path}: missing column {', '.join(missing)}; the header has: {quoted_names(header)}; name the columns "
            "with --text-column and --label-column, or text_columns and label_column in the task's TOML (#1, #2, ... "
            f"of a file without a header){hint}"
        )
    if twice := [column for column in columns if header.count(column) > 1]:
        raise RepeatedColumn(f"{path}: the column {quoted(twice[0])} is there twice; rename one in the header")


def _quoted_fields(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for values in reader:
            yield reader.line_num, values
    except csv.Error as error:
        raise TaskError(f"{path}, line {reader.line_num}: {error}") from None


def _json_values(path: Path, line: int, raw: str, columns: tuple[str, ...]) -> list[str]:
    try:
        record = parse_json(raw)
    except RepeatedKey as error:
        raise TaskError(f"{path}, line {line}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path}, line {line}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise TaskError(f"{path}, line {line}: expected a JSON object, got {raw:.80}")
    return [_value(path, line, column, record.get(column), column == columns[-1]) for column in columns]


def _value(path: Path, line: int, column: str, value: Any, label: bool) -> str:
    """A value as a string: a label may be a whole number, or true or false."""
    if label and isinstance(value, (int, bool)):
        value = str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str):
        raise TaskError(f"{path}, line {line}: column {column!r} must be a string, got {quoted(value)}")
    if not is_text(value):
        raise TaskError(f"{path}, line {line}: column {column!r} is no text: {quoted(value)}")
    return value


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Rows of a Parquet file; the first is number 1."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TaskError(
            f"{path}: reading .parquet needs pyarrow: pip install pyarrow, or save the table as .csv or .jsonl"
        ) from None
    content = _bytes(path)
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        header = list(file.schema_arrow.names)
        _check_header(path, header, columns)
        line = 0
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            for record in batch.to_pylist():
                line += 1
                yield line, [_value(path, line, column, record[column], column == columns[-1]) for column in columns]
    except (pyarrow.ArrowException, OSError) as error:
        raise TaskError(f"{path} is not Parquet, or damaged: {str(error)[:300]}") from None
