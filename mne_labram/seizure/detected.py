"""What was found in one recording, at any threshold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mne import Annotations

from mne_labram.decoding.scores import NOT_ANALYSED, EventScores
from mne_labram.seizure.event_types import known_type
from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.involvement import Involvement
from mne_labram.seizure.operating_points import choose_parameters, measured_points
from mne_labram.signal.events import EventParameters, events_from_scores

if TYPE_CHECKING:
    import pandas as pd
    from mne.io import BaseRaw

__all__ = ["SeizureDetection"]

_HOUR = 3600


@dataclass(repr=False)
class SeizureDetection:
    """Seizures found in a recording, and everything needed to find them again at another threshold.

    Made by :func:`mne_labram.detect_seizures`.

    Parameters
    ----------
    scores : EventScores
        Probabilities per second of all classes, with the parameters in use; NaN where not analysed.
    model_name : str
        What the detector is called.
    card : dict
        What is known of the detector: the card of weights that ship, or what its checkpoint says of itself.
    calibration : dict | None
        The detector's ``detection``: parameters, the operating points that were measured, and on how much data.
    involvement : list of Involvement
        Which channels events were found by.
    raw : mne.io.BaseRaw | None
        The recording.
    """

    scores: EventScores
    model_name: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    involvement: list[Involvement] = field(default_factory=list)
    raw: BaseRaw | None = None

    def __repr__(self) -> str:
        missing = int((~self.analysed).sum())
        return (
            f"<SeizureDetection | {len(self.table)} seizure(s) in {self.scores.duration:g} s, threshold "
            f"{self.threshold:g}, {missing} s not analysed>"
        )

    # -- scores ------------------------------------------------------------------------------------------------------
    @property
    def parameters(self) -> EventParameters:
        """Threshold and post-processing."""
        return self.scores.parameters

    @property
    def threshold(self) -> float:
        """Probability that a seizure must reach."""
        return self.parameters.threshold

    @property
    def duration(self) -> float:
        """Length of the recording in seconds."""
        return self.scores.duration

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of a seizure of any type, shape (n_seconds,); NaN where not analysed."""
        return np.clip(1.0 - self.scores.probabilities[self.scores.background], 0.0, 1.0)

    @property
    def analysed(self) -> np.ndarray:
        """True for every second that has a score, shape (n_seconds,)."""
        return self.scores.analysed

    @property
    def operating_points(self) -> list[dict[str, Any]]:
        """What was measured of the detector.

        Returns
        -------
        points : list of dict
            ``threshold``, ``fp_per_day`` and ``sensitivity``, by rising threshold. Empty where nothing was measured, or
            with other smoothing, release, merging or shortest duration.
        """
        return measured_points(self.calibration, self.parameters)

    @property
    def measured_on(self) -> dict[str, float]:
        """``hours`` and ``n_seizures`` that the operating points were measured on, as far as known."""
        known = self.calibration or {}
        return {name: known[name] for name in ("hours", "n_seizures") if known.get(name) is not None}

    @property
    def operating_point(self) -> dict[str, Any] | None:
        """What was measured at this threshold, or at the next lower one that was measured.

        Returns
        -------
        point : dict | None
            ``None`` where nothing was.
        """
        below = [point for point in self.operating_points if point["threshold"] <= self.threshold + 1e-9]
        return below[-1] if below else None

    # -- events ------------------------------------------------------------------------------------------------------
    @property
    def start_time(self) -> datetime | None:
        """When the first sample was recorded."""
        date = self.scores.meas_date
        return None if date is None else date + timedelta(seconds=float(self.scores.first_time))

    @cached_property
    def table(self) -> EventTable:
        """The seizures, on whole seconds."""
        events = [
            SeizureEvent(
                float(start),
                float(stop - start),
                self._type_of(start, stop),
                round(float(np.clip(confidence, 0.0, 1.0)), 4),
                self._channels_of(start, stop),
            )
            for start, stop, confidence in self.spans
        ]
        return EventTable(tuple(events), self.duration, self.start_time)

    @cached_property
    def spans(self) -> list[tuple[int, float, float]]:
        """Start, stop and confidence of every seizure; whole seconds, but for a recording shorter than one."""
        whole = int(self.duration + 1e-9)
        found = events_from_scores(self.probability, self.parameters)
        # The last part of a second has a score of its own, and an event must not end after the recording.
        return [(a, min(b, whole) if whole > a else self.duration, c) for a, b, c in found]

    def _type_of(self, start: int, stop: float) -> str:
        """Return the type that is most probable on average."""
        names, background = self.scores.class_names, self.scores.background
        rows = [row for row in range(len(names)) if row != background]
        part = self.scores.probabilities[rows, start : int(np.ceil(stop))]
        return known_type(names[rows[int(np.argmax(part.mean(axis=1)))]]) or "sz"

    def involvement_of(self, start: float, stop: float) -> Involvement | None:
        """Return the channel involvement that was measured in a stretch of time.

        Parameters
        ----------
        start, stop : float
            In seconds after the first sample.

        Returns
        -------
        involvement : Involvement | None
            The one that overlaps with the stretch most; ``None`` if none does.
        """
        shared = [min(stop, each.stop) - max(start, each.start) for each in self.involvement]
        if not shared or max(shared) <= 0:
            return None
        return self.involvement[int(np.argmax(shared))]

    def _channels_of(self, start: float, stop: float) -> tuple[str, ...]:
        found = self.involvement_of(start, stop)
        return () if found is None else found.channels

    @property
    def annotations(self) -> Annotations:
        """The seizures, and what was not analysed, as MNE's annotations; see :meth:`to_annotations`."""
        return self.to_annotations()

    def to_annotations(self, *, mark_not_analysed: bool = True) -> Annotations:
        """Return annotations that ``raw.set_annotations`` puts in their place.

        Parameters
        ----------
        mark_not_analysed : bool
            Also return the stretches without a score, described as "not analysed".

        Returns
        -------
        annotations : mne.Annotations
            The description is "seizure p=0.93", or the type in the place of "seizure" where the detector tells types
            apart: many formats keep no more than it. ``extras`` hold ``eventType``, ``confidence`` and ``channels``
            as SzCORE names them; ``channels`` is left out where it is not known.
        """
        offset = 0.0 if self.scores.meas_date is None else self.scores.first_time
        rows = []
        for event in self.table.events:
            name = "seizure" if event.event_type == "sz" else event.event_type
            extras: dict[str, Any] = {"eventType": event.event_type, "confidence": event.confidence}
            if event.channels:
                extras["channels"] = ",".join(event.channels)
            rows.append((event.onset, event.duration, f"{name} p={event.confidence:.2f}", extras))
        if mark_not_analysed:
            rows += [(start, stop - start, NOT_ANALYSED, {}) for start, stop in self.not_analysed]
        rows.sort(key=lambda row: row[:3])
        return Annotations(
            onset=[row[0] + offset for row in rows],
            duration=[row[1] for row in rows],
            description=[row[2] for row in rows],
            orig_time=self.scores.meas_date,
            extras=[row[3] for row in rows],
        )

    @property
    def not_analysed(self) -> list[tuple[float, float]]:
        """Start and end of the stretches without a score, in seconds after the first sample."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (~self.analysed).astype(int), [0]])))
        pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return [(float(start), min(float(stop), self.duration)) for start, stop in pairs]

    # -- another threshold -------------------------------------------------------------------------------------------
    def rethreshold(
        self,
        threshold: float | None = None,
        *,
        target_fp_per_day: float | None = None,
        parameters: EventParameters | None = None,
    ) -> SeizureDetection:
        """Find seizures at another threshold, without running the model.

        Parameters
        ----------
        threshold : float | None
            Probability that a seizure must reach.
        target_fp_per_day : float | None
            False alarms a day that are accepted: the threshold is that of the measured operating point.
        parameters : EventParameters | None
            Other smoothing, merging and shortest duration.

        Returns
        -------
        detection : SeizureDetection
            A new one; this one is not changed. A seizure has the channel involvement of the one that it overlaps with.

        Raises
        ------
        ValueError
            If not exactly one of threshold and target is given (or parameters instead), a value makes no sense, or
            nothing was measured at any target.
        """
        if threshold is None and target_fp_per_day is None and parameters is None:
            raise ValueError("Pass a threshold, a target_fp_per_day or parameters.")
        base = self.parameters if parameters is None else parameters
        chosen = choose_parameters(
            self.calibration, threshold=threshold, target_fp_per_day=target_fp_per_day, parameters=base
        )
        return replace(self, scores=replace(self.scores, parameters=chosen))

    # -- what leaves the program -------------------------------------------------------------------------------------
    @property
    def burden(self) -> float:
        """Share of the time analysed that seizures take; NaN where nothing was analysed."""
        analysed = int(self.analysed.sum())
        return sum(stop - start for start, stop, _ in self.spans) / analysed if analysed else float("nan")

    def burden_by_hour(self) -> pd.DataFrame:
        """Return seizures hour by hour.

        Returns
        -------
        frame : pandas.DataFrame
            A row for each hour after the first sample, the last perhaps a part of one: ``hour``, ``n_seizures`` that
            begin in it, ``seizure_seconds`` and ``analysed_seconds``.
        """
        import pandas as pd

        inside = np.zeros(len(self.analysed))
        begins = np.zeros(len(self.analysed), dtype=int)
        for start, stop, _ in self.spans:
            inside[start : int(np.ceil(stop))] = 1
            begins[start] += 1
        firsts = np.arange(0, len(inside), _HOUR)
        columns = {"n_seizures": begins, "seizure_seconds": inside, "analysed_seconds": self.analysed.astype(float)}
        return pd.DataFrame(
            {"hour": firsts // _HOUR, **{name: np.add.reduceat(values, firsts) for name, values in columns.items()}}
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per seizure.

        Returns
        -------
        frame : pandas.DataFrame
            ``onset`` and ``duration`` in seconds after the first sample, ``event_type``, ``confidence``,
            ``channels`` (largest involvement first, separated by commas; empty where not known) and, where the
            recording is dated, ``clock_time``.
        """
        import pandas as pd

        frame = pd.DataFrame(
            {
                "onset": pd.Series([event.onset for event in self.table.events], dtype=float),
                "duration": pd.Series([event.duration for event in self.table.events], dtype=float),
                "event_type": pd.Series([event.event_type for event in self.table.events], dtype=object),
                "confidence": pd.Series([event.confidence for event in self.table.events], dtype=float),
                "channels": pd.Series([",".join(event.channels) for event in self.table.events], dtype=object),
            }
        )
        if self.start_time is not None:
            frame["clock_time"] = pd.Timestamp(self.start_time) + pd.to_timedelta(frame["onset"], unit="s")
        return frame

    def to_tsv(self, fname: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Write the seizures as SzCORE's tab-separated table.

        Parameters
        ----------
        fname : path-like
            Where to; its folder must exist.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        path : Path
            The file, which appears whole or not at all.

        Raises
        ------
        OSError
            If the file exists already, or cannot be written.

        Notes
        -----
        The format has no way to say that a stretch was not analysed: silence in the table may mean that.
        """
        from mne_labram.seizure.szcore import write_szcore_tsv

        return write_szcore_tsv(self.table, fname, overwrite=overwrite)

    def report(self, fname: str | os.PathLike, *, overwrite: bool = False, **options: Any) -> Path:
        """Write an HTML page of what was found.

        Parameters
        ----------
        fname : path-like
            Where to: ``.html``; its folder must exist.
        overwrite : bool
            Replace an existing file.
        **options : Any
            Options of :func:`mne_labram.seizure.report.seizure_report`.

        Returns
        -------
        path : Path
            The file, which appears whole or not at all.

        Raises
        ------
        OSError
            If the file exists already, or cannot be written.
        ValueError
            If the name ends in something other than ``.html`` or ``.htm``.
        """
        from mne_labram._files import checked_ending, written_whole
        from mne_labram.seizure.report import seizure_report

        path = checked_ending(Path(fname).expanduser(), "The page", ".html", ".htm")
        with written_whole(path, overwrite=overwrite) as temporary:
            page = seizure_report(self, self.raw, **options)
            html = temporary.with_name(f"{temporary.name}.html")
            page.save(html, open_browser=False, overwrite=True, verbose="error")
            os.replace(html, temporary)
        return path
