"""Which of the training windows decide when to stop: those of some subjects, never windows drawn at random."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from mne.utils import logger
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import Subset

__all__ = ["SubjectSplit"]

# Names of subjects in the log.
_N_SHOWN = 10


@dataclass
class SubjectSplit:
    """Set some subjects aside; a ``train_split`` of skorch.

    Parameters
    ----------
    fraction : float
        Part of the windows, about, in (0, 0.5].
    seed : int
        Which subjects they are.

    Notes
    -----
    Neighbouring windows are nearly alike, and so are windows of one recording: a validation set drawn at random from
    the windows looks well until the very end of overfitting.
    """

    fraction: float = 0.2
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
            Validation holds whole subjects where there are two or more, every class if any choice of subjects allows
            it, and never the only subjects of a class. Otherwise, which the log says, it is the last windows of each
            class.
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
            If ``fraction`` makes no sense, there is not a group for each window, or there are too few windows.
        """
        if not 0.0 < self.fraction <= 0.5:
            raise ValueError(f"The part of the windows for validation must lie in (0, 0.5], got {self.fraction}.")
        if len(y) < 2:
            raise ValueError(f"{len(y)} windows cannot be split into training and validation; pass validation=None.")
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
        rows = self._subjects(y, groups, len(names))
        held_out = [str(name) for name in np.unique(groups[rows])]
        shown = ", ".join(held_out[:_N_SHOWN]) + (", ..." if len(held_out) > _N_SHOWN else "")
        logger.info(f"Training on {len(names) - len(held_out)} groups, stopping by {len(held_out)}: {shown}.")
        return rows

    def _subjects(self, y: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
        """Take a fold of whole groups: first of all one that leaves every class to training, then one that has all."""
        n_folds = min(n_groups, max(2, round(1 / self.fraction)))
        classes = set(y.tolist())
        best, best_rank = None, (-1, -1)
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=self.seed)
        with warnings.catch_warnings():
            # A class with fewer windows than folds: it is in as many as it can be.
            warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
            # Where every class is that rare, folds cannot be stratified at all, and only the groups count.
            labels = y if max(np.bincount(np.unique(y, return_inverse=True)[1])) >= n_folds else np.zeros_like(y)
            for train, validation in folds.split(np.zeros(len(y)), labels, groups):
                if not len(train) or not len(validation):
                    continue
                rank = (len(set(y[train].tolist()) & classes), len(set(y[validation].tolist()) & classes))
                if rank > best_rank:
                    best, best_rank = validation, rank
        rows = np.zeros(len(y), dtype=bool)
        rows[best] = True
        return rows

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
