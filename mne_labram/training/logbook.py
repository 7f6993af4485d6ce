"""What is known of a training while it runs: a progress bar, CSV files, TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import io
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mne.utils import logger
from tqdm import tqdm

from mne_labram._files import written_whole

__all__ = ["Logbook", "Table"]

# Seconds before a bar appears.
_DELAY = 2.0
# Where there is no terminal, a bar would fill a file: a line then, at most every so many seconds.
_LINE_EVERY = 60.0
# Shown beside the bar, if they are there.
_SHOWN = ("loss", "accuracy", "codebook_perplexity", "lr")


class Table:
    """A CSV file that rows are added to, and that can be cut back to a step.

    Parameters
    ----------
    path : Path
        The file; made when the first row comes.

    Notes
    -----
    Every row is flushed, so that a training that is killed leaves all of them. A row with a column that is not there
    yet has the file written again with that column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def cut(self, column: str, last: int) -> None:
        """Remove later rows, and one that was not written to its end.

        Parameters
        ----------
        column : str
            Holds whole numbers that grow.
        last : int
            Largest number to keep.
        """
        if not self.path.exists():
            return
        rows = [row for row in self.rows() if (row.get(column) or "").isdecimal() and int(row[column]) <= last]
        self.columns = list(rows[0]) if rows else []
        self._rewrite(rows)

    def rows(self) -> list[dict[str, str]]:
        """Read all whole rows.

        Returns
        -------
        rows : list of dict of str to str
            Empty if there is no file.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf8")
        # What follows the last line break was not written to its end.
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Parameters
        ----------
        row : mapping of str to number
            Values by column.
        """
        new = [name for name in row if name not in self.columns]
        if new:
            rows = self.rows() if self.columns else []
            self.columns += new
            self._rewrite(rows)
        with open(self.path, "a", encoding="utf8", newline="") as file:
            file.write(_lines(self.columns, [row]))

    def sync(self) -> None:
        """Make sure that the rows are on the disk."""
        if self.path.exists():
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with written_whole(self.path, overwrite=True) as temporary:
            head = _lines(self.columns, [dict(zip(self.columns, self.columns, strict=True))]) if self.columns else ""
            temporary.write_text(head + _lines(self.columns, rows), encoding="utf8")


def _lines(columns: list[str], rows: list[Mapping[str, Any]]) -> str:
    """Write rows as CSV; numbers with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([row.get(name, "") for name in columns] for row in rows)
    return out.getvalue()


class Logbook:
    """Write down how a training goes, and show it: as a bar in a terminal, elsewhere as a line every minute.

    Parameters
    ----------
    folder : Path
        Gets ``log.csv``, a row every few steps, and ``epochs.csv``, a row per epoch.
    total : int
        Steps at the end.
    first, first_epoch : int
        Steps and epochs done before.
    tensorboard : bool
        Write for TensorBoard too.
    active : bool
        False in all processes but the first: nothing is written.

    Raises
    ------
    ImportError
        If TensorBoard is asked for but not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        first: int = 0,
        first_epoch: int = 0,
        tensorboard: bool = False,
        active: bool = True,
    ) -> None:
        self.active = active
        self.steps, self.epochs = Table(folder / "log.csv"), Table(folder / "epochs.csv")
        self._writer = None
        silent = logger.getEffectiveLevel() > logging.INFO or os.environ.get("MNE_TQDM", "").lower() == "off"
        shown = active and not silent
        in_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=first,
            desc="Training",
            unit="step",
            delay=_DELAY,
            disable=not (shown and in_terminal),
        )
        self._total, self._lines, self._said_at = total, shown and not in_terminal, time.monotonic()
        if not active:
            return
        self.steps.cut("step", first)
        self.epochs.cut("epoch", first_epoch)
        if tensorboard:
            check_tensorboard()
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1 if first else None)

    def advance(self) -> None:
        """Count a step."""
        self._bar.update()

    def log(self, row: Mapping[str, float]) -> None:
        """Write a row of ``log.csv``.

        Parameters
        ----------
        row : mapping of str to number
            ``"step"`` and other values.
        """
        shown = {name: f"{row[name]:.4g}" for name in _SHOWN if name in row}
        self._bar.set_postfix(shown, refresh=False)
        if self._lines and time.monotonic() - self._said_at >= _LINE_EVERY:
            self._said_at = time.monotonic()
            values = "".join(f", {name} {value}" for name, value in shown.items())
            logger.info(f"Step {row['step']} of {self._total}{values}.")
        self._write(self.steps, row, "")

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Write a row of ``epochs.csv``.

        Parameters
        ----------
        row : mapping of str to number
            ``"step"`` and other values.
        """
        self._write(self.epochs, row, "epoch/")

    def _write(self, table: Table, row: Mapping[str, float], prefix: str) -> None:
        if not self.active:
            return
        table.add(row)
        if self._writer is not None:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(f"{prefix}{name}", value, int(row["step"]))

    def sync(self) -> None:
        """Make sure that everything is on the disk, before a checkpoint says that it was written."""
        if self.active:
            self.steps.sync()
            self.epochs.sync()

    def close(self) -> None:
        """Close the bar and the files."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()


def check_tensorboard() -> None:
    """Refuse to begin without TensorBoard if it is asked for."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("tensorboard=True needs TensorBoard; run pip install tensorboard, or train without it.")
