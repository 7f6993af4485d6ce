"""Which of the training windows decide when to stop: those of some subjects, never windows drawn at random."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from mne.utils import logger
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import Subset

__all__ = ["HoldOut"]

# Names of subjects in the log.
_N_SHOWN = 10


@dataclass
class HoldOut:
    """Set some windows aside; a ``train_split`` of skorch.

    Parameters
    ----------
    fraction : float
        Part of the windows, about, in (0, 0.5].
    by : {"subjects", "blocks"}
        Whole subjects where they are known, or the last windows of each class.
    seed : int
        Which subjects they are.

    Notes
    -----
    Neighbouring windows are nearly alike, and so are windows of one recording: a validation set drawn at random from
    the windows looks well until the very end of overfitting.
    """

    fraction: float = 0.2
    by: str = "subjects"
    seed: int = 0

    def __call__(self, dataset: Any, y: Any = None, groups: Any = None) -> tuple[Subset, Subset]:
        """Split a data set.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            Windows and classes.
        y : array-like of int, shape (n_windows,)
            Classes; without them only the groups count.
        groups : array-like, shape (n_windows,) | None
            The subject of each window.

        Returns
        -------
        train, validation : torch.utils.data.Subset
            Validation holds whole subjects where there are two or more, and every class stays in training if any choice
            of subjects allows it; of such choices, one that has every class in validation too is preferred. Otherwise,
            which the log says, validation is the last windows of each class.
        """
        y = np.zeros(len(dataset), dtype=int) if y is None else np.asarray(y)
        rows = self.rows(y, groups)
        return Subset(dataset, np.flatnonzero(~rows).tolist()), Subset(dataset, np.flatnonzero(rows).tolist())

    def rows(self, y: np.ndarray, groups: Any = None) -> np.ndarray:
        """Choose the windows for validation.

        Parameters
        ----------
        y : ndarray of int, shape (n_windows,)
            Classes.
        groups : array-like, shape (n_windows,) | None
            The subject of each window.

        Returns
        -------
        rows : ndarray of bool, shape (n_windows,)
            True for validation.

        Raises
        ------
        ValueError
            If ``fraction`` or ``by`` makes no sense, there is not one group for each window, or there are too few
            windows.
        """
        if not 0.0 < self.fraction <= 0.5:
            raise ValueError(f"The part of the windows for validation must lie in (0, 0.5], got {self.fraction}.")
        if len(y) < 2:
            raise ValueError(f"{len(y)} windows cannot be split into training and validation; pass validation=None.")
        if self.by not in ("subjects", "blocks"):
            raise ValueError(f"Validation must be by 'subjects' or 'blocks', got {self.by!r}.")
        if self.by == "blocks":
            return self._blocks(y)
        if groups is None:
            logger.info(
                "No groups were given, so training stops by the last windows of each class, in one block each; pass "
                "groups=subjects to fit to stop by subjects that were not trained on."
            )
            return self._blocks(y)
        groups = np.asarray(groups)
        if groups.shape != y.shape:
            raise ValueError(f"There must be one group per window: {len(y)} windows, groups of shape {groups.shape}.")
        names = np.unique(groups)
        if len(names) < 2:
            logger.info(f"All windows are of one group ({names[0]}), so training stops by the last ones of each class.")
            return self._blocks(y)
        rows = self._subjects(y, groups, names)
        held_out = [str(name) for name in np.unique(groups[rows])]
        shown = ", ".join(held_out[:_N_SHOWN]) + (", ..." if len(held_out) > _N_SHOWN else "")
        logger.info(f"Training on {len(names) - len(held_out)} groups, stopping by {len(held_out)}: {shown}.")
        return rows

    def _subjects(self, y: np.ndarray, groups: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Take a fold of whole groups, or a single group: the best of those that leave most classes to training."""
        chosen = [groups == name for name in np.random.default_rng(self.seed).permutation(names)]
        n_folds = min(len(names), max(2, round(1 / self.fraction)))
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=self.seed)
        # Where every class has fewer windows than there are folds, they cannot be stratified, and only groups count.
        labels = y if np.unique(y, return_counts=True)[1].max() >= n_folds else np.zeros_like(y)
        with warnings.catch_warnings():
            # A class with fewer windows than folds: it is in as many as it can be.
            warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
            fold_rows = [np.isin(np.arange(len(y)), test) for _, test in folds.split(np.zeros(len(y)), labels, groups)]
        best, best_rank = chosen[0], (-1, -1, -1)
        for is_fold, rows in [*((1, rows) for rows in fold_rows), *((0, rows) for rows in chosen)]:
            if not rows.any() or rows.all():
                continue
            # A fold is of about the size that was asked for, a single group may be small.
            rank = len(np.unique(y[~rows])), is_fold, len(np.unique(y[rows]))
            if rank > best_rank:
                best, best_rank = rows, rank
        return best

    def _blocks(self, y: np.ndarray) -> np.ndarray:
        """Take the last windows of each class, one block per class; a class of a single window stays in training."""
        rows = np.zeros(len(y), dtype=bool)
        for label in np.unique(y):
            mine = np.flatnonzero(y == label)
            n = min(len(mine) - 1, max(1, round(self.fraction * len(mine))))
            rows[mine[len(mine) - n :]] = n > 0
        if not rows.any():
            rows[-1] = True
        return rows
