"""What was measured of codecs, in words and as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mne_labram.benchmark.codec import BITRATES, CODECS, benchmark_codecs, make_codec, read_benchmark
from mne_labram.benchmark.rate_distortion import RateDistortionRow, bits_saved

__all__ = ["codec_benchmark_page", "codec_page", "curves", "rows_to_json"]

#: PRD of the neural codec alone that is better than a DCT, by bitrate, and what the hybrid has to save against KLT+DCT.
NEURAL_GOALS = {64: 38.0, 128: 22.0, 256: 9.3}
HYBRID_GOAL, HYBRID_RATES = 0.10, (64, 128, 256, 512)
# What others are compared with at the same error: as published, and as good as it gets.
_REFERENCES = ("KLT+DCT, variable", "KLT+DCT tuned, variable")


def codec_benchmark_page(
    data: str | os.PathLike[str],
    *,
    codecs: Sequence[str] = CODECS,
    bitrates: Sequence[float] = BITRATES,
    classify: Sequence[str] = (),
    classify_bitrate: float = 512.0,
    speed: Sequence[str] = (),
    hours: float = 1.0,
    jobs: int = 1,
    threads: int = 2,
) -> tuple[str, dict[str, Any]]:
    """Measure everything that is known of codecs.

    Parameters
    ----------
    data : path-like
        ``../shared/data``.
    codecs, bitrates
        See :func:`mne_labram.benchmark.codec.benchmark_codecs`.
    classify : sequence of str
        Codecs after which windows are classified; not the Karhunen-Loève transforms, which know one montage.
    classify_bitrate : float
        Bits per second and channel of that.
    speed : sequence of str
        Modes whose time is measured.
    hours, jobs, threads
        See :func:`mne_labram.benchmark.codec_speed.measure_codec_speed`.

    Returns
    -------
    page : str
        Tables in Markdown.
    found : dict
        The same as plain JSON values: ``"rows"``, ``"saved"``, ``"classification"``, ``"speed"``.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    ValueError
        If there is no codec of a name, or a number makes no sense.
    """
    from mne_labram.benchmark.codec_classification import classification_after, classification_table
    from mne_labram.benchmark.codec_speed import MODES, measure_codec_speed, speed_table

    unknown = [name for name in (*codecs, *classify) if name not in CODECS]
    if unknown:
        raise ValueError(f"There is no codec {unknown[0]!r}; there are {', '.join(CODECS)}.")
    unknown = [mode for mode in speed if mode not in MODES]
    if unknown:
        raise ValueError(f"There is no mode {unknown[0]!r}; there are {', '.join(MODES)}.")
    for name in classify:
        if name.startswith("klt"):
            raise ValueError(f"{name!r} knows one montage, and classification has two; leave it out there.")
    parts, found = [], {"rows": [], "saved": {}, "classification": {}, "speed": []}
    if codecs:
        rows = benchmark_codecs(data, codecs, bitrates)
        parts.append(codec_page(rows))
        found |= rows_to_json(rows)
    if classify:
        benchmark = read_benchmark(data)[0]
        made = {name: make_codec(name, benchmark) for name in classify}
        after = classification_after(made, data, classify_bitrate)
        parts += ["## Classification", classification_table(after)]
        found["classification"] = {name: [asdict(row) for row in some] for name, some in after.items()}
    if speed:
        source, timed = measure_codec_speed(speed, data=data, hours=hours, jobs=jobs, threads=threads)
        parts += ["## Speed", speed_table(source, timed)]
        found["speed"] = [asdict(row) for row in timed]
    return "\n\n".join(parts), found


def curves(rows: Sequence[RateDistortionRow], dataset: str) -> dict[str, dict[float, float]]:
    """Return the error at measured bits.

    Parameters
    ----------
    rows : sequence of RateDistortionRow
        From :func:`benchmark_codecs`.
    dataset : str
        Which of them.

    Returns
    -------
    curves : dict of str to dict
        By codec: PRD by bits per second and channel.
    """
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        if row.dataset == dataset:
            found.setdefault(row.codec, {})[row.bits + row.header] = row.prd
    return found


def codec_page(rows: Sequence[RateDistortionRow]) -> str:
    """Write what was measured in Markdown.

    Parameters
    ----------
    rows : sequence of RateDistortionRow
        From :func:`benchmark_codecs`.

    Returns
    -------
    page : str
        For each data set: PRD by bitrate, other measures at 256 bit/s, bits saved, and whether goals are met.
    """
    parts: list[str] = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        own, found = [row for row in rows if row.dataset == dataset], curves(rows, dataset)
        goals = _goals(own, found) if dataset == "eegmat" else []
        blocks = [[f"## {dataset}"], _prd_table(own), _measures(own), _saved_lines(found), goals]
        parts += ["\n".join(block) for block in blocks if block]
    return "\n\n".join(parts)


def _prd_table(rows: Sequence[RateDistortionRow]) -> list[str]:
    rates = sorted({row.bitrate for row in rows})
    found = {(row.codec, row.bitrate): row for row in rows}
    lines = [
        "PRD (%, mean and standard deviation over subjects) by bit/s/channel; in brackets what was used, where that is "
        "another number.",
        "",
        f"| codec | {' | '.join(f'{rate:g}' for rate in rates)} |",
        f"|---{'|---' * len(rates)}|",
    ]
    for codec in dict.fromkeys(row.codec for row in rows):
        cells = [_cell(found.get((codec, rate))) for rate in rates]
        lines.append(f"| {codec} | {' | '.join(cells)} |")
    return lines


def _cell(row: RateDistortionRow | None) -> str:
    if row is None:
        return "-"
    digits = 1 if row.prd >= 10 else 2
    spread = "" if row.spread != row.spread else f" ± {row.spread:.{digits}f}"
    used = f" ({row.bits:.1f})" if abs(row.bits / row.bitrate - 1) > 0.005 else ""
    over = f", {row.n_over} blocks over" if row.n_over else ""
    return f"{row.prd:.{digits}f}{spread}{used}{over}"


def _measures(rows: Sequence[RateDistortionRow], bitrate: float = 256) -> list[str]:
    some = [row for row in rows if row.bitrate == bitrate]
    if not some:
        return []
    names = list(some[0].bands)
    lines = [
        f"At {bitrate:g} bit/s/channel: PRDN, Pearson's r, PRDN within bands, how much longer the stream is than the "
        "information content, and the bit/s/channel that a header takes besides (a basis of channels above all).",
        "",
        f"| codec | PRDN | r | {' | '.join(names)} | overhead | header |",
        f"|---|---|---{'|---' * len(names)}|---|---|",
    ]
    for row in some:
        overhead = "-" if row.overhead != row.overhead else f"{row.overhead:.3f} %"
        bands = " | ".join(f"{row.bands[name]:.1f}" for name in names)
        lines.append(f"| {row.codec} | {row.prdn:.2f} | {row.r:.4f} | {bands} | {overhead} | {row.header:.2g} |")
    return lines


def _saved_lines(found: Mapping[str, Mapping[float, float]]) -> list[str]:
    rates = HYBRID_RATES
    lines = []
    for reference in _REFERENCES:
        if reference not in found or len(found[reference]) < 2:
            continue
        lines += [
            "",
            f"Bits saved against {reference} at its PRD, headers counted.",
            "",
            f"| codec | {' | '.join(f'{rate:g}' for rate in rates)} |",
            f"|---{'|---' * len(rates)}|",
        ]
        for codec, curve in found.items():
            if codec == reference or len(curve) < 2:
                continue
            saved = bits_saved(curve, found[reference], rates)
            cells = ["-" if saved[rate] != saved[rate] else f"{100 * saved[rate]:+.1f} %" for rate in map(float, rates)]
            lines.append(f"| {codec} | {' | '.join(cells)} |")
    return lines[1:]


def _goals(rows: Sequence[RateDistortionRow], found: Mapping[str, Mapping[float, float]]) -> list[str]:
    lines = []
    for row in rows:
        goal = NEURAL_GOALS.get(int(row.bitrate))
        if row.codec == "neural" and goal is not None:
            verdict = "met" if row.prd <= goal and row.bits <= row.bitrate else "missed"
            lines.append(f"- neural, {row.bitrate:g} bit/s: PRD {row.prd:.2f} % (goal: at most {goal:g} %, {verdict}).")
    reference = found.get(_REFERENCES[0])
    if "hybrid" in found and reference and min(len(reference), len(found["hybrid"])) > 1:
        for rate, saved in bits_saved(found["hybrid"], reference, HYBRID_RATES).items():
            verdict = "met" if saved >= HYBRID_GOAL else "missed"
            lines.append(
                f"- hybrid: {100 * saved:.1f} % of the bits saved against KLT+DCT at {rate:g} bit/s "
                f"(goal: {100 * HYBRID_GOAL:.0f} %, {verdict})."
            )
    return lines


def rows_to_json(rows: Sequence[RateDistortionRow]) -> dict[str, Any]:
    """Return what was measured as plain JSON values.

    Parameters
    ----------
    rows : sequence of RateDistortionRow
        From :func:`benchmark_codecs`.

    Returns
    -------
    content : dict
        ``"rows"``, and ``"saved"``: by data set, reference, codec and rate; ``None`` stands for what is not known.
    """
    saved: dict[str, Any] = {}
    for dataset in dict.fromkeys(row.dataset for row in rows):
        found = {codec: curve for codec, curve in curves(rows, dataset).items() if len(curve) > 1}
        saved[dataset] = {
            reference: {
                codec: {f"{rate:g}": value for rate, value in bits_saved(curve, found[reference], HYBRID_RATES).items()}
                for codec, curve in found.items()
            }
            for reference in _REFERENCES
            if reference in found
        }
    return _plain({"rows": [asdict(row) for row in rows], "saved": saved})


def _plain(value: Any) -> Any:
    """Put ``None`` where a number is NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and value != value else value
