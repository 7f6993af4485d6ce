"""The 1 Hz scores of a recording, and the annotations that follow from them at any threshold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mne import Annotations

from mne_labram.signal.events import EventParameters, events_from_scores

if TYPE_CHECKING:
    import pandas as pd
    from mne.io import BaseRaw

    from mne_labram.signal.report import ConformReport

__all__ = ["NOT_ANALYSED", "EventScores"]

#: Description of the stretches that were not analysed. It does not begin with "bad", so it rejects no epochs.
NOT_ANALYSED = "not analysed"


@dataclass(repr=False)
class EventScores:
    """Class probabilities per second, with what is needed to turn them into annotations.

    Parameters
    ----------
    probabilities : ndarray, shape (n_classes, n_seconds)
        Between 0 and 1; NaN where not analysed. Second ``i`` begins ``i`` seconds after the recording's first sample.
    class_names : list of str
        One per row.
    background : int
        Row that stands for "nothing to annotate".
    duration : float
        Length of the recording in seconds.
    parameters : EventParameters
        Threshold and post-processing used by :meth:`annotations` unless told otherwise.
    first_time : float
        Time of the recording's first sample in seconds (``raw.first_time``).
    meas_date : datetime | None
        ``raw.info["meas_date"]``.
    report : ConformReport | None
        What was done to the signal.
    existing : mne.Annotations | None
        The recording's own annotations where their signal is, if that is not where MNE has them (EDF+D).
    """

    probabilities: np.ndarray
    class_names: list[str]
    background: int
    duration: float
    parameters: EventParameters = field(default_factory=EventParameters)
    first_time: float = 0.0
    meas_date: Any = None
    report: ConformReport | None = None
    existing: Annotations | None = None

    def __repr__(self) -> str:
        missing = int((~self.analysed).sum())
        return (
            f"<EventScores | {self.duration:g} s, {', '.join(self.class_names)}, threshold "
            f"{self.parameters.threshold:g}, {missing} s not analysed>"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the probabilities, shape (n_classes, n_seconds)."""
        return np.array(self.probabilities, dtype=dtype, copy=copy)

    @property
    def times(self) -> np.ndarray:
        """Start of every second after the first sample, shape (n_seconds,)."""
        return np.arange(self.probabilities.shape[1], dtype=float)

    @property
    def analysed(self) -> np.ndarray:
        """True for every second that has a score, shape (n_seconds,)."""
        return np.isfinite(self.probabilities).all(axis=0)

    def annotations(
        self, threshold: float | None = None, *, mark_not_analysed: bool = True, **changes: float | None
    ) -> Annotations:
        """Return the events at a threshold, without running the model.

        Parameters
        ----------
        threshold : float | None
            ``None``: the one in ``parameters``.
        mark_not_analysed : bool
            Also return the stretches without a score, described as "not analysed".
        **changes : float
            Other fields of :class:`~mne_labram.signal.events.EventParameters` to change: ``release``, ``smoothing``,
            ``merge_gap``, ``min_duration``.

        Returns
        -------
        annotations : mne.Annotations
            ``extras`` holds ``confidence``, the mean probability within the event. ``orig_time`` is the recording's
            ``meas_date``, so that ``raw.set_annotations`` puts them in their place.
        """
        if threshold is not None:
            changes["threshold"] = threshold
        parameters = replace(self.parameters, **changes) if changes else self.parameters
        found = [
            (a, min(b, self.duration), name, {"confidence": round(confidence, 6)})
            for row, name in enumerate(self.class_names)
            if row != self.background
            for a, b, confidence in events_from_scores(self.probabilities[row], parameters)
        ]
        if mark_not_analysed:
            edges = np.flatnonzero(np.diff(np.concatenate([[0], (~self.analysed).astype(int), [0]])))
            stretches = zip(edges[::2], edges[1::2], strict=True)
            found += [(a, min(b, self.duration), NOT_ANALYSED, {}) for a, b in stretches]
        found.sort(key=lambda event: (event[0], event[1], event[2]))
        # With a measurement date onsets count from it; without one MNE counts from the first sample.
        offset = 0.0 if self.meas_date is None else self.first_time
        return Annotations(
            onset=[event[0] + offset for event in found],
            duration=[event[1] - event[0] for event in found],
            description=[event[2] for event in found],
            orig_time=self.meas_date,
            extras=[event[3] for event in found],
        )

    def to_data_frame(self) -> pd.DataFrame:
        """Return one row per second: ``time`` (s), a column per class, ``analysed``."""
        import pandas as pd

        columns = {"time": self.times}
        columns.update(zip(self.class_names, self.probabilities, strict=True))
        return pd.DataFrame({**columns, "analysed": self.analysed})


def add_annotations(raw: BaseRaw, annotations: Annotations, existing: Annotations | None = None) -> None:
    """Add annotations to a raw in place, keeping the ones it has.

    Without a measurement date ``raw.annotations`` already holds ``first_time`` in its onsets, and
    ``raw.set_annotations`` adds it once more: setting them again would move them.

    Parameters
    ----------
    raw : mne.io.Raw
        The recording.
    annotations : mne.Annotations
        From :meth:`EventScores.annotations` of the same recording.
    existing : mne.Annotations | None
        What to keep (``EventScores.existing``); ``None``: the raw's annotations.
    """
    existing = (raw.annotations if existing is None else existing).copy()
    if raw.info["meas_date"] is None:
        existing.onset = existing.onset - raw.first_time
    raw.set_annotations(existing + annotations, verbose="error")
