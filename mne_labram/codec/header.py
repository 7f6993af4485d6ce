"""A Raw without its samples, as JSON and back: measurement info and annotations, exactly.

Written out field by field rather than as FIF, which rounds positions and filters to float32, and rather than as a
pickle, which can run code.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import mne
import numpy as np
from mne.io import BaseRaw

from mne_labram.signal.contract import ContractError
from mne_labram.signal.opening import describe_source

__all__ = ["annotations_from", "header_of", "info_from", "whole_number"]

# Fields of the measurement info that are one value each, or a dictionary of such.
_FIELDS = (
    "description",
    "experimenter",
    "line_freq",
    "highpass",
    "lowpass",
    "utc_offset",
    "proj_id",
    "proj_name",
    "gantry_angle",
    "acq_pars",
    "subject_info",
    "device_info",
    "helium_info",
    "xplotter_layout",
)
_CHANNEL_FIELDS = ("kind", "coil_type", "unit", "unit_mul", "coord_frame")


def header_of(raw: BaseRaw) -> dict[str, Any]:
    """Say all that a Raw is, but for its samples.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.

    Returns
    -------
    header : dict
        JSON: ``sfreq``, ``n_times``, ``first_samp``, ``source``, ``info`` and ``annotations``.

    Raises
    ------
    ContractError
        If it holds something that would be lost and that the samples cannot do without: the compensation of
        gradiometers.

    Notes
    -----
    Kept: names, types, units, positions, digitised points, bad channels, rate, filters, line frequency, date, subject,
    description, device, reference, projectors (applied ones as applied, others as not applied) and annotations with
    their channels and extras. Not kept: what only MEG systems write (HPI, compensation, processing history) and the
    identifiers of files and machines.
    """
    info = raw.info
    if info["comps"]:
        raise ContractError(
            f"{describe_source(raw)} holds compensated gradiometers, which this format does not keep; pick the EEG "
            "channels first: raw.pick('eeg')."
        )
    kept = {name: _plain(info[name]) for name in _FIELDS if info.get(name) is not None}
    # Of other classes than those that MNE restores by itself.
    if info["meas_date"] is not None:
        kept["meas_date"] = info["meas_date"].astimezone(datetime.UTC).isoformat()
    if info["dev_head_t"] is not None:
        kept["dev_head_t"] = _plain(np.asarray(info["dev_head_t"]["trans"]))
    if info["dig"] is not None:
        kept["dig"] = [
            [int(point["kind"]), int(point["ident"]), int(point["coord_frame"]), _plain(np.asarray(point["r"]))]
            for point in info["dig"]
        ]
    kept |= {
        "bads": list(info["bads"]),
        "custom_ref_applied": int(info["custom_ref_applied"]),
        "chs": [[ch["ch_name"], *(int(ch[name]) for name in _CHANNEL_FIELDS), _plain(ch["loc"])] for ch in info["chs"]],
        "projs": [_projector(proj) for proj in info["projs"]],
    }
    return {
        "sfreq": float(info["sfreq"]),
        "n_times": int(raw.n_times),
        "first_samp": int(raw.first_samp),
        "source": describe_source(raw),
        "info": kept,
        "annotations": _annotations(raw.annotations),
    }


def _projector(proj: mne.Projection) -> dict[str, Any]:
    data = {name: _plain(proj["data"][name]) for name in ("nrow", "ncol", "row_names", "col_names", "data")}
    explained = proj.get("explained_var")
    return {
        "desc": str(proj["desc"]),
        "kind": int(proj["kind"]),
        "active": bool(proj["active"]),
        "explained_var": None if explained is None else _plain(float(explained)),
        "data": data,
    }


def _annotations(annotations: mne.Annotations) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "onset": [_plain(float(onset)) for onset in annotations.onset],
        "duration": [_plain(float(duration)) for duration in annotations.duration],
        "description": [str(description) for description in annotations.description],
    }
    # Most recordings have neither.
    if any(len(names) for names in annotations.ch_names):
        rows["ch_names"] = [list(map(str, names)) for names in annotations.ch_names]
    if any(annotations.extras):
        rows["extras"] = [_plain(dict(extras or {})) for extras in annotations.extras]
    return rows


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON does not have becomes an object with one key that begins with @."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)  # the named integers of FIF too
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"@float": repr(float(value))}
    if isinstance(value, datetime.datetime):
        return {"@datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"@date": value.isoformat()}
    if isinstance(value, np.ndarray):
        return {"@array": [_plain(each) for each in value.ravel().tolist()], "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    raise ContractError(f"The measurement info holds a {type(value).__name__}, which cannot be written; remove it.")


def _restored(value: Any) -> Any:
    """Undo :func:`_plain`."""
    if isinstance(value, list):
        return [_restored(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "@float" in value:
        return float(value["@float"])
    if "@datetime" in value:
        return datetime.datetime.fromisoformat(value["@datetime"])
    if "@date" in value:
        return datetime.date.fromisoformat(value["@date"])
    if "@array" in value:
        return np.array([_restored(each) for each in value["@array"]], dtype=float).reshape(value["shape"])
    return {key: _restored(each) for key, each in value.items()}


def info_from(header: Mapping[str, Any]) -> mne.Info:
    """Make the measurement info again.

    Parameters
    ----------
    header : mapping
        From :func:`header_of`.

    Returns
    -------
    info : mne.Info
        As it was.

    Raises
    ------
    ContractError
        If the header is not one of ours.
    """
    try:
        return _info_from(header)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ContractError(f"The header makes no sense ({error}); get the file again.") from error


def _info_from(header: Mapping[str, Any]) -> mne.Info:
    kept = header["info"]
    sfreq = float(header["sfreq"])
    if not 0 < sfreq < math.inf:
        raise ValueError(f"a rate of {sfreq:g} Hz")
    info = mne.create_info([row[0] for row in kept["chs"]], sfreq, "misc", verbose="ERROR")
    for ch, (_, *numbers, loc) in zip(info["chs"], kept["chs"], strict=True):
        ch.update({name: int(number) for name, number in zip(_CHANNEL_FIELDS, numbers, strict=True)})
        ch["loc"] = _restored(loc)
        if ch["loc"].shape != (12,):
            raise ValueError("a position without 12 numbers")
    with info._unlock():
        for name in _FIELDS:
            if name in kept:
                info[name] = _restored(kept[name])
        info["custom_ref_applied"] = int(kept["custom_ref_applied"])
        if "meas_date" in kept:
            info["meas_date"] = datetime.datetime.fromisoformat(kept["meas_date"])
        if "dev_head_t" in kept:
            info["dev_head_t"] = mne.transforms.Transform("meg", "head", _restored(kept["dev_head_t"]))
        if "dig" in kept:
            # MNE gives the class of these points no public name.
            point = type(mne.channels.make_dig_montage(nasion=(0, 0, 0)).dig[0])
            info["dig"] = [
                point(kind=kind, ident=ident, coord_frame=frame, r=_restored(r))
                for kind, ident, frame, r in kept["dig"]
            ]
        info["projs"] = [_restored_projector(proj) for proj in kept["projs"]]
    info["bads"] = list(kept["bads"])
    info._check_consistency()
    return info


def _restored_projector(proj: Mapping[str, Any]) -> mne.Projection:
    made = mne.Projection(
        data=_restored(proj["data"]), desc=proj["desc"], kind=proj["kind"], active=proj["active"], explained_var=None
    )
    if proj["explained_var"] is not None:
        made["explained_var"] = _restored(proj["explained_var"])
    return made


def annotations_from(header: Mapping[str, Any], orig_time: datetime.datetime | None) -> mne.Annotations:
    """Make the annotations again.

    Parameters
    ----------
    header : mapping
        From :func:`header_of`.
    orig_time : datetime | None
        ``info["meas_date"]``: in a Raw, both are always the same.

    Returns
    -------
    annotations : mne.Annotations
        As ``raw.annotations`` had them: onsets count from ``meas_date``, or from sample 0 where there is none.

    Raises
    ------
    ContractError
        If the header is not one of ours.
    """
    try:
        rows = header["annotations"]
        return mne.Annotations(
            np.array(_restored(rows["onset"]), dtype=float),
            np.array(_restored(rows["duration"]), dtype=float),
            list(rows["description"]),
            orig_time=orig_time,
            ch_names=rows.get("ch_names"),
            extras=_restored(rows["extras"]) if "extras" in rows else None,
        )
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ContractError(f"The annotations in the header make no sense ({error}); get the file again.") from error


def whole_number(header: Mapping[str, Any], name: str, low: int = 0, high: int = 2**53) -> int:
    """Return a whole number of a header.

    Parameters
    ----------
    header : mapping
        The header.
    name : str
        Its key.
    low, high : int
        Between these.

    Returns
    -------
    number : int
        The number.

    Raises
    ------
    ContractError
        If it is none, or lies elsewhere.
    """
    number = header.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise ContractError(f"The header says {name}={number!r}, which makes no sense; get the file again.")
    return number


def outside(annotations: mne.Annotations, raw: BaseRaw) -> Sequence[int]:
    """Return which annotations lie wholly outside a recording."""
    start = raw.first_time
    end = start + raw.n_times / raw.info["sfreq"]
    return np.flatnonzero((annotations.onset >= end) | (annotations.onset + annotations.duration < start)).tolist()
