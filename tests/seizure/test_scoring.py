"""Scores against timescoring called by hand, SzCORE's own program, and what was measured of its rules."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring, SampleScoring

from mne_labram.seizure.events import EventTable, SeizureEvent
from mne_labram.seizure.scores import METRICS, Counts, Scores, merged
from mne_labram.seizure.scoring import score, score_tables, union
from mne_labram.signal.contract import ContractError

HEADER = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
#: timescoring's names of METRICS.
THEIRS = dict(zip(METRICS, ("sensitivity", "precision", "f1", "fpRate"), strict=True))


def table(*intervals: tuple[float, float], duration: float = 3600.0) -> EventTable:
    return EventTable(tuple(SeizureEvent(start, stop - start) for start, stop in intervals), duration)


def write(fname: Path, each: EventTable) -> Path:
    """Write a table as SzCORE's own program does."""
    fname.parent.mkdir(parents=True, exist_ok=True)
    rows = [(start, stop - start, "sz") for start, stop in each.intervals] or [(0, each.duration, "bckg")]
    lines = [f"{a:.2f}\t{b:.2f}\t{kind}\tn/a\tn/a\tn/a\t{each.duration:.2f}\n" for a, b, kind in rows]
    fname.write_text(HEADER + "".join(lines))
    return fname


def write_tree(folder: Path, tables: dict[str, EventTable]) -> Path:
    for name, each in tables.items():
        subject, run = name.split("/")
        write(folder / subject / "ses-01" / "eeg" / f"{subject}_ses-01_task-szMonitoring_run-{run}_events.tsv", each)
    return folder


def close(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(float(theirs), nan_ok=True, rel=1e-12, abs=1e-12)


REFERENCE = {
    "sub-01/00": table((100, 160), (2000, 2400)),
    "sub-01/01": table(duration=1800.0),
    "sub-02/00": table((500, 520), duration=5400.0),
    "sub-03/00": table(duration=7200.0),
    "sub-04/00": table((3000, 3100)),
}
HYPOTHESIS = {
    "sub-01/00": table((90, 120), (300, 310), (390, 400), (2450, 2600)),
    "sub-01/01": table((10, 700), duration=1800.0),
    "sub-02/00": table(duration=5400.0),
    "sub-03/00": table((10, 20), (110, 120), (209, 215), duration=7200.0),
    "sub-04/00": table((2971, 2972), (3159, 3200), (3500, 3600)),
}


@pytest.mark.parametrize(
    ("found", "tp", "fp"),
    [
        # Measured with timescoring 0.0.7 (shared/reference/seizure_szcore.md, 1.3); a seizure lasts from 1000 to 1060.
        ([(960, 971)], 1, 0),
        ([(960, 970)], 0, 1),
        ([(1119, 1130)], 1, 0),
        ([(1120, 1130)], 0, 1),
        ([(10, 20), (109, 120)], 0, 1),
        ([(10, 20), (110, 120)], 0, 2),
        ([(1000, 1720)], 1, 2),
        ([(0, 3600)], 1, 11),
    ],
)
def test_the_rules_at_their_edges(found, tp, fp) -> None:
    scores = score_tables([table((1000, 1060))], [table(*found)], ["a"])
    event = scores.pooled("event")
    assert (event.n_true, event.n_tp, event.n_fp, event.seconds) == (1, tp, fp, 3600.0)
    assert event.fp_per_day == pytest.approx(24 * fp)


@pytest.mark.parametrize(
    ("true", "found", "f1"),
    [([], [], math.nan), ([], [(10, 20)], 0.0), ([(10, 20)], [], 0.0), ([(10, 20)], [(10, 20)], 1.0)],
)
def test_f1_without_events(true, found, f1) -> None:
    scores = score_tables([table(*true)], [table(*found)], ["a"])
    assert close(scores.mean("event")["f1"], f1)
    assert close(scores.mean("sample")["f1"], f1)


def test_as_timescoring_called_by_hand() -> None:
    scores = score_tables(
        list(REFERENCE.values()), list(HYPOTHESIS.values()), [name.split("/")[0] for name in REFERENCE]
    )
    frame = scores.to_frame()
    assert frame.index.tolist() == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert frame.n_recordings.tolist() == [2, 1, 1, 1]
    assert frame.hours.tolist() == [1.5, 1.5, 2.0, 1.0]
    for subject in ("sub-02", "sub-03", "sub-04"):
        true, found = REFERENCE[f"{subject}/00"], HYPOTHESIS[f"{subject}/00"]
        ref, hyp = (Annotation(each.intervals, 1, int(each.duration)) for each in (true, found))
        for kind, theirs in (("event", EventScoring(ref, hyp)), ("sample", SampleScoring(ref, hyp))):
            for ours, name in THEIRS.items():
                assert close(frame.loc[subject, f"{kind}_{ours}"], getattr(theirs, name)), (subject, kind, ours)
    # Recordings of a subject are pooled before a metric is computed, and a metric is averaged where it is defined.
    assert frame.loc["sub-01", ["event_n_true", "event_n_tp", "event_n_fp"]].tolist() == [3, 2, 4]
    for kind in ("event", "sample"):
        for name in METRICS:
            assert close(scores.mean(kind)[name], np.nanmean(frame[f"{kind}_{name}"]))
            assert close(scores.std(kind)[name], np.nanstd(frame[f"{kind}_{name}"]))
        pooled = scores.pooled(kind)
        assert pooled.n_tp == frame[f"{kind}_n_tp"].sum()
        assert close(pooled.sensitivity, frame[f"{kind}_n_tp"].sum() / frame[f"{kind}_n_true"].sum())
    assert scores.n_seizures == 4
    assert scores.n_hours == 6.0


_TIMES = st.floats(0, 1990).map(lambda x: round(x, 2))
_INTERVALS = st.lists(st.tuples(_TIMES, st.floats(0.01, 700).map(lambda x: round(x, 2))), max_size=8).map(
    lambda pairs: [(a, min(a + b, 2000.0)) for a, b in pairs]
)


@given(true=_INTERVALS, found=_INTERVALS)
def test_any_events_are_counted_as_timescoring_counts_their_union(true, found) -> None:
    both = [table(*each, duration=2000.0) for each in (true, found)]
    ref, hyp = (Annotation(union(each.intervals), 1, 2000) for each in both)
    scores = score_tables([both[0]], [both[1]], ["a"])
    for kind, theirs in (("event", EventScoring(ref, hyp)), ("sample", SampleScoring(ref, hyp))):
        counts = scores.pooled(kind)
        assert (counts.n_true, counts.n_tp, counts.n_fp) == (theirs.refTrue, theirs.tp, theirs.fp)
        for ours, name in THEIRS.items():
            assert close(getattr(counts, ours), getattr(theirs, name))
    assert counts.n_true <= 2000


def test_an_event_within_another_one_does_not_shorten_it() -> None:
    """Timescoring 0.0.7 merges (100, 400) and (150, 160) into (100, 160)."""
    scores = score_tables([table((390, 395))], [table((100, 400), (150, 160))], ["a"])
    assert scores.pooled("event") == Counts(1, 1, 0, 3600.0)


@pytest.mark.parametrize("fractions", [False, True])
def test_as_the_program_of_the_leaderboard(tmp_path, fractions) -> None:
    evaluate = pytest.importorskip("szcore_evaluation.evaluate")
    shift = 0.7 if fractions else 0.0
    reference, hypothesis = (
        {
            name: table(*((a + shift, b + 2 * shift) for a, b in each.intervals), duration=each.duration + 2)
            for name, each in tables.items()
        }
        for tables in (REFERENCE, HYPOTHESIS)
    )
    ref, hyp = write_tree(tmp_path / "ref", reference), write_tree(tmp_path / "hyp", hypothesis)
    (hyp / "sub-04/ses-01/eeg/sub-04_ses-01_task-szMonitoring_run-00_events.tsv").unlink()
    theirs = evaluate.evaluate_dataset(ref, hyp, tmp_path / "out.json")
    ours = score(ref, hyp, masks="szcore" if fractions else "timescoring")
    for kind in ("event", "sample"):
        for name, their_name in THEIRS.items():
            assert close(ours.mean(kind)[name], theirs[f"{kind}_results"][their_name])
            assert close(ours.std(kind)[name], theirs[f"{kind}_results"][f"{their_name}_std"])
    pooled = evaluate.evaluate_dataset(ref, hyp, tmp_path / "out.json", avg_per_subject=False)
    for name, their_name in THEIRS.items():
        if name != "fp_per_day":
            assert close(getattr(ours.pooled(), name), pooled["event_results"][their_name])


def test_masks_of_times_that_are_no_whole_seconds() -> None:
    """Measured with epilepsy2bids 0.0.7 and timescoring 0.0.7 (shared/reference/seizure_szcore.md, 1.4)."""
    true, found = [table((10.9, 14.9), duration=60.0)], [table((11, 15), duration=60.0)]
    assert score_tables(true, found, ["a"]).pooled("sample") == Counts(4, 4, 0, 60.0)
    assert score_tables(true, found, ["a"], masks="szcore").pooled("sample") == Counts(4, 3, 1, 60.0)
    short = [table((10.2, 10.8), duration=60.0)]
    assert score_tables(short, short, ["a"]).pooled("sample").n_true == 1
    assert score_tables(short, short, ["a"], masks="szcore").pooled("event") == Counts(0, 0, 0, 60.0)


def test_folders(tmp_path) -> None:
    ref, hyp = write_tree(tmp_path / "ref", REFERENCE), write_tree(tmp_path / "hyp", HYPOTHESIS)
    for name in ("channels", "scans"):  # szcore-evaluation 0.0.7 takes these for events and stops
        (ref / f"sub-01/ses-01/eeg/sub-01_ses-01_task-szMonitoring_run-00_{name}.tsv").write_text("name\ttype\nC3\tEEG")
    (ref / "participants.tsv").write_text("participant_id\nsub-01\n")
    scores = score(ref, hyp)
    assert scores.problems == ()
    memory = score_tables(
        list(REFERENCE.values()), list(HYPOTHESIS.values()), [name.split("/")[0] for name in REFERENCE]
    )
    assert scores == memory
    text = str(scores)
    assert f"timescoring {scores.timescoring}" in text
    assert "4 subject(s), 5 recording(s), 6 h, 4 seizure(s)" in text
    assert [line.split()[0] for line in text.splitlines()[3:]] == [*scores.to_frame().index, "mean", "std", "pooled"]
    one = next(ref.glob("sub-04/**/*_events.tsv"))
    assert score(one, hyp / one.relative_to(ref)).subjects == scores.subjects[3:]


def test_detections_that_cannot_be_scored(tmp_path) -> None:
    ref, hyp = write_tree(tmp_path / "ref", REFERENCE), write_tree(tmp_path / "hyp", HYPOTHESIS)
    files = {name: next(hyp.glob(f"{name}/**/*run-00_events.tsv")) for name in ("sub-01", "sub-02", "sub-03", "sub-04")}
    assert score(ref, hyp, errors="raise").problems == ()
    files["sub-01"].unlink()
    files["sub-02"].write_text(HEADER)
    write(files["sub-03"], table((10, 20), duration=7199.5))
    files["sub-04"].write_text(HEADER.replace("onset", "start") + "\x00" * 50)
    write(hyp / "sub-09" / "sub-09_events.tsv", table())
    scores = score(ref, hyp)
    assert len(scores.problems) == 5
    for problem, words in zip(
        scores.problems, ("sub-01", "sub-02", "7199.5 s", "sub-04", "sub-09_events.tsv has no"), strict=True
    ):
        assert words in problem
        assert problem.endswith("scored as nothing detected." if "sub-09" not in words else "not scored.")
        assert problem in str(scores)
    nothing = score_tables(
        list(REFERENCE.values()),
        [HYPOTHESIS[name] if name == "sub-01/01" else true.with_events(()) for name, true in REFERENCE.items()],
        [name.split("/")[0] for name in REFERENCE],
    )
    assert scores.subjects == nothing.subjects
    for name in ("sub-04", "sub-03", "sub-02", "sub-01"):
        with pytest.raises(ContractError, match=r"sub-01.*missing"):
            score(ref, hyp, errors="raise")
        if files[name].exists():
            with pytest.raises(ContractError, match=name):
                score(next(ref.glob(f"{name}/**/*run-00_events.tsv")), files[name], errors="raise")


def test_what_is_refused(tmp_path) -> None:
    ref, hyp = write_tree(tmp_path / "ref", REFERENCE), write_tree(tmp_path / "hyp", HYPOTHESIS)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        score(tmp_path / "nowhere", hyp)
    with pytest.raises(ValueError, match="no file sub-"):
        score(ref / "sub-01", hyp)
    with pytest.raises(ValueError, match="two files or folders"):
        score(ref, next(hyp.glob("**/*.tsv")))
    with pytest.raises(ValueError, match="errors must be"):
        score(ref, hyp, errors="ignore")
    with pytest.raises(ValueError, match="masks must be"):
        score(ref, hyp, masks="mine")
    with pytest.raises(ValueError, match="1 reference tables, 2 detected ones"):
        score_tables([table()], [table(), table()], ["a"])
    with pytest.raises(ValueError, match="two recordings"):
        score_tables([table()], [table(duration=60.0)], ["a"])
    bad = next(ref.glob("sub-01/**/*_events.tsv"))
    bad.write_text("onset\tduration\ttrial_type\n1\t2\tsz\n")
    with pytest.raises(ValueError, match="reference .*sub-01.* cannot be read"):
        score(ref, hyp)


def test_json(tmp_path) -> None:
    scores = score_tables([table(), table((1, 2))], [table(), table((1, 2))], ["a", "b"])
    values = json.loads(scores.to_json(tmp_path / "out.json").read_text())
    assert values["subjects"]["a"]["event"]["f1"] is None
    assert values["event"]["mean"]["f1"] == 1.0
    assert values["timescoring"] == scores.timescoring
    with pytest.raises(FileExistsError):
        scores.to_json(tmp_path / "out.json")
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]


def test_sums() -> None:
    """The parts of a data set give the whole."""
    tables = [table((100, 200)), table(), table((50, 60))]
    found = [table((150, 160)), table((5, 9)), table()]
    parts = [score_tables([true], [hyp], [who]) for true, hyp, who in zip(tables, found, "aba", strict=True)]
    assert merged(parts) == score_tables(tables, found, list("aba"))
    with pytest.raises(ValueError, match="score both anew"):
        _ = parts[0] + Scores((), "0.0.6")
    with pytest.raises(ValueError, match="kind"):
        parts[0].mean("events")
    assert str(Scores((), "0.0.7")).startswith("0 subject(s)")
