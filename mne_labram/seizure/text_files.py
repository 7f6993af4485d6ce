"""Small text files that others wrote: read with care, and every complaint says where."""

from __future__ import annotations

import codecs
import math
import os
import re
from pathlib import Path

__all__ = ["MAX_BYTES", "excerpt", "number", "read_lines", "table_cells"]

#: No file of labels is larger. A night with a row per second has 2 MB.
MAX_BYTES = 10_000_000
#: No recording is longer: whoever reads a duration makes an array of it.
MAX_SECONDS = 366 * 86400.0

# Written so that there is one way to match: a cell may have millions of characters.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_lines(fname: str | os.PathLike[str]) -> tuple[str, list[str]]:
    """Read the lines of a text file.

    Parameters
    ----------
    fname : path-like
        The file: UTF-8, with or without a byte order mark, with any kind of line ends.

    Returns
    -------
    name : str
        The file's name without its folder, for messages.
    lines : list of str
        Without line ends, and without empty lines at the end.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no regular file, larger than 10 MB, or not text.
    """
    path = Path(fname).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file of labels; give the file itself, not a folder or a device.")
    with open(path, "rb") as file:
        # One byte more than allowed: the size that the system tells may change meanwhile.
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_BYTES // 10**6} MB, which no file of labels is.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path.name} is UTF-16 text, as spreadsheets write it; save the file as UTF-8.")
    if b"\x00" in content:
        line = content[: content.index(b"\x00")].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: there is a NUL byte; this is not a text file, or it is damaged.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: this is not UTF-8 text; save the file as UTF-8.") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return path.name, lines


def excerpt(text: str) -> str:
    """Quote what a file says, cut to a length that a sentence can bear.

    Parameters
    ----------
    text : str
        Anything.

    Returns
    -------
    quoted : str
        At most some forty characters, with nothing unprintable.
    """
    return repr(text) if len(text) <= 40 else f"{text[:37]!r}..."


def number(text: str) -> float | None:
    """Read a plain decimal number.

    Parameters
    ----------
    text : str
        Digits with a sign, a point and an exponent at most: no underscores, no "nan", no "inf".

    Returns
    -------
    value : float | None
        ``None``: it is no finite number.
    """
    text = text.strip(" ")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def table_cells(
    name: str, lines: list[str], separator: str, *, first_line: int = 1
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Split a table into its cells.

    Parameters
    ----------
    name : str
        Name of the file.
    lines : list of str
        The header of the table and its rows.
    separator : str
        What stands between two cells. Quotation marks have no meaning.
    first_line : int
        Number of the header's line in the file.

    Returns
    -------
    columns : list of str
        The header.
    rows : list of (int, dict)
        Line number, and text by column.

    Raises
    ------
    ValueError
        If there is no header, a column is there twice, or a row has more or fewer cells than the header.
    """
    if not lines:
        raise ValueError(f"{name} is empty.")
    columns = [cell.strip(" ") for cell in lines[0].split(separator)]
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}, line {first_line}: the column {excerpt(twice)} is there twice.")
    rows = []
    for line, text in enumerate(lines[1:], first_line + 1):
        cells = text.split(separator)
        if len(cells) != len(columns):
            raise ValueError(
                f"{name}, line {line}: there are {len(cells)} cells and the header names {len(columns)} columns."
            )
        rows.append((line, dict(zip(columns, (cell.strip(" ") for cell in cells), strict=True))))
    return columns, rows
