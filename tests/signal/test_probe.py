"""Excerpts of a recording: offsets, flat channels, mains frequency."""

import mne
import numpy as np
import pytest

from mne_labram.signal.probe import EXCERPT_SECONDS, N_EXCERPTS, detect_line_freq, probe_of, take_probe
from mne_labram.signal.quality import QualityThresholds


@pytest.mark.parametrize(("seconds", "whole"), [(0.3, True), (9.0, True), (96.0, True), (97.0, False), (4000.0, False)])
def test_excerpts(seconds, whole):
    n_times = int(seconds * 100)
    reads = []

    def read(a, b):
        assert 0 <= a < b <= n_times
        reads.append((a, b))
        return np.arange(a, b, dtype=float)[None] + 7e4

    probe = take_probe(read, 1, n_times, 100.0)
    assert probe.whole == whole
    if whole:
        assert [a for a, _ in reads[1:]] == [b for _, b in reads[:-1]]
        assert reads[-1][1] == n_times
    else:
        assert len(reads) == N_EXCERPTS
        assert all(b - a == EXCERPT_SECONDS * 100 for a, b in reads)
    assert reads[0][0] == 0
    assert reads[-1][1] == n_times
    assert probe.constants[0] == pytest.approx(7e4 + n_times / 2, abs=n_times * 0.1 + 1)


def test_excerpts_of_many_channels_are_shorter():
    reads = []

    def read(a, b):
        reads.append(b - a)
        return np.zeros((128, b - a), dtype=np.float32)

    take_probe(read, 128, 2048 * 600, 2048.0)
    assert reads == [2048 * 2] * N_EXCERPTS


def test_missing_numbers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 800)) * 10 + 500
    x[0, :700] = np.inf
    x[1] = np.nan
    probe = probe_of([x[:, :400], x[:, 400:]], 100.0, True)
    assert probe.constants[0] == pytest.approx(500, abs=5)
    assert probe.constants[1] == 0
    assert probe.amplitude[1] == 0
    assert probe.amplitude[[0, 2]] == pytest.approx(6.7, rel=0.2)
    assert probe.quiet(QualityThresholds()).tolist() == [False, True, False]


def test_quiet_is_judged_by_the_second():
    """A value that changes once a second is flat, and so is a channel at rest but for amplifier noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 1600)) * 10
    x[1] = np.repeat(np.arange(16) * 5.0, 100)
    x[2] = rng.uniform(-0.2, 0.2, 1600)
    x[3, :1500] = 0
    segments = [x[:, i : i + 400] for i in range(0, 1600, 400)]
    for whole in (True, False):
        assert probe_of(segments, 100.0, whole).quiet(QualityThresholds()).tolist() == [False, True, True, False]


@pytest.mark.parametrize("sfreq", [125.0, 250.0, 1000.0])
@pytest.mark.parametrize("line", [50.0, 60.0])
@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_line(make_eeg, sfreq, line, seconds):
    times = np.arange(int(seconds * sfreq)) / sfreq
    segments = [make_eeg(6, len(times), sfreq, seed=i) for i in range(10)]
    hum = 15 * np.sin(2 * np.pi * line * times + 1)
    assert detect_line_freq(segments, sfreq) is None
    assert detect_line_freq([segment + hum for segment in segments], sfreq) == line
    # in one channel of six it is that channel's trouble
    one = [segment + hum * (np.arange(6) == 2)[:, None] for segment in segments]
    assert detect_line_freq(one, sfreq) is None
    # an excerpt with missing samples does not count
    assert detect_line_freq([segment + hum * np.nan for segment in segments], sfreq) is None


def test_line_above_the_source(make_eeg):
    assert detect_line_freq([make_eeg(3, 400, 100.0)], 100.0) is None
    assert detect_line_freq([make_eeg(3, 40, 100.0)], 100.0) is None
    assert detect_line_freq([], 100.0) is None


def test_real_recordings(shared_data):
    """125-Hz recordings from Argentina hold 50 Hz, EEGLAB's from California 60 Hz, and eegmat was low-passed."""
    for name, expected in [
        ("mi_openbci/S02_S1R0_raw.fif", 50),
        ("clinical_formats/eeglab_set/eeglab_data.set", 60),
        ("eegmat/Subject00_1.edf", None),
    ]:
        raw = mne.io.read_raw(shared_data / name, verbose="ERROR").pick("eeg")
        sfreq = raw.info["sfreq"]
        probe = take_probe(
            lambda a, b, raw=raw: raw.get_data(start=a, stop=b) * 1e6, len(raw.ch_names), raw.n_times, sfreq
        )
        assert detect_line_freq(probe.segments, probe.sfreq) == expected
