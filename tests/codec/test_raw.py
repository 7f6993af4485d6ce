"""A compressed recording as a Raw: lazy, and honest about damage."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.codec import blocks, container
from mne_labram.codec.compression import braincodec_compress, braincodec_decompress
from mne_labram.codec.container import ContainerReader
from mne_labram.codec.layout import block_bounds
from mne_labram.codec.raw import DAMAGED
from mne_labram.signal.contract import ContractError

pytestmark = pytest.mark.usefixtures("stub_coders")


@pytest.fixture
def compressed(make_raw, tmp_path):
    """Compress 20 s, 2-s blocks; returns the file and its samples."""
    names = ["F3", "F4", "C3", "C4", "STI"]

    def edit(x: np.ndarray) -> None:
        x[4] = 1e6 * (np.arange(x.shape[1]) % 50 == 0)

    raw = make_raw(seconds=20, names=names, types=["eeg"] * 4 + ["stim"], edit=edit)
    raw.set_meas_date(1e9)
    raw.crop(1.0, None)
    raw.set_annotations(mne.Annotations([3.0], [1.0], ["sz"]))
    braincodec_compress(raw, tmp_path / "a.bcz", block_seconds=2, report=False)
    return tmp_path / "a.bcz", braincodec_decompress(tmp_path / "a.bcz", preload=True).get_data()


@pytest.fixture
def decoded_blocks(monkeypatch):
    """Count the blocks that are decoded."""
    calls = []
    original = blocks._decode_block

    def spy(storage, body, n_samples):
        calls.append(n_samples)
        return original(storage, body, n_samples)

    monkeypatch.setattr(blocks, "_decode_block", spy)
    return calls


@pytest.mark.parametrize(
    ("n_times", "size", "expected"),
    [
        (1, 10, [(0, 1)]),
        (10, 10, [(0, 10)]),
        (14, 10, [(0, 14)]),
        (15, 10, [(0, 10), (10, 15)]),
        (24, 10, [(0, 10), (10, 24)]),
        (7, 1, [(i, i + 1) for i in range(7)]),
    ],
)
def test_bounds(n_times, size, expected):
    assert block_bounds(n_times, size) == expected


def test_only_what_is_read_is_decoded(compressed, decoded_blocks):
    path, x = compressed
    raw = braincodec_decompress(path)
    assert decoded_blocks == []
    np.testing.assert_array_equal(raw.get_data(start=1100, stop=1400), x[:, 1100:1400])
    assert len(decoded_blocks) == 1
    np.testing.assert_array_equal(raw.get_data(["C4"], start=1400, stop=1600), x[3:4, 1400:1600])
    assert len(decoded_blocks) == 2
    np.testing.assert_array_equal(raw[[2, 0], 1300:1301][0], x[[2, 0], 1300:1301])
    assert len(decoded_blocks) == 2
    cropped = raw.copy().crop(9.0, 9.5)
    np.testing.assert_array_equal(cropped.get_data(), x[:, 2250:2376])
    assert len(decoded_blocks) == 3


def test_saving_decodes_each_block_once(compressed, decoded_blocks, tmp_path):
    path, x = compressed
    raw = braincodec_decompress(path)
    raw.save(tmp_path / "b_raw.fif", fmt="double", verbose="error")
    assert len(decoded_blocks) == len(raw._raw_extras[0]["blocks"].bounds)
    back = mne.io.read_raw(tmp_path / "b_raw.fif", verbose="error")
    np.testing.assert_array_equal(back.get_data(), x)
    assert back.first_samp == raw.first_samp == 250
    assert not raw.preload


def test_no_more_than_a_few_blocks_are_kept(compressed):
    raw = braincodec_decompress(compressed[0])
    raw.get_data()
    assert len(raw._raw_extras[0]["blocks"]._cache) <= 3


def test_what_one_does_with_a_raw(compressed):
    """Picks, renames, projections, concatenation, copies, pickles, events: MNE's own, on lazy data."""
    path, x = compressed
    raw = braincodec_decompress(path)
    for each in (raw.copy(), copy.deepcopy(raw), pickle.loads(pickle.dumps(raw))):
        np.testing.assert_array_equal(each.get_data(), x)
    picked = raw.copy().pick(["C4", "F4"]).rename_channels({"C4": "X"})
    np.testing.assert_array_equal(picked.get_data(), x[[3, 1]])
    both = mne.concatenate_raws([raw.copy(), raw.copy().crop(2.0, 5.0)], preload=False, verbose="error")
    np.testing.assert_array_equal(both.get_data(), np.concatenate([x, x[:, 500:1251]], axis=1))
    referenced = raw.copy().set_eeg_reference(projection=True, verbose="error").apply_proj(verbose="error")
    np.testing.assert_allclose(referenced.get_data("eeg"), x[:4] - x[:4].mean(0), atol=1e-18)
    assert len(mne.find_events(raw, verbose="error")) == 94
    loaded = raw.copy().load_data(verbose="error")
    np.testing.assert_array_equal(loaded.get_data(), x)
    assert "RawBrainCodec" in repr(raw)
    np.testing.assert_allclose(raw.annotations.onset, [4.0])


def damaged(path: Path, *numbers: int) -> Path:
    """Flip a bit in the bodies of some blocks."""
    content = bytearray(path.read_bytes())
    places = ContainerReader(path)._places
    for number in numbers:
        content[places[number] + 40] ^= 4
    out = path.with_name("damaged.bcz")
    out.write_bytes(content)
    return out


def test_a_damaged_block_costs_that_block(compressed):
    path, x = compressed
    with pytest.warns(RuntimeWarning, match=r"block 3 \(6 to 8 s\): the checksum does not fit; filled with NaN and"):
        raw = braincodec_decompress(damaged(path, 3))
    y = raw.get_data()
    assert np.isnan(y[:4, 1500:2000]).all()
    np.testing.assert_array_equal(y[4, 1500:2000], 0)
    keep = np.r_[0:1500, 2000:4750]
    np.testing.assert_array_equal(y[:, keep], x[:, keep])
    found = raw.annotations[raw.annotations.description == DAMAGED]
    # From the recording's beginning, onsets count the second that was cropped.
    np.testing.assert_allclose((found.onset, found.duration), ([7.0], [2.0]))
    assert list(raw.annotations.description) == ["sz", DAMAGED]
    epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose="error")
    epochs.drop_bad(verbose="error")
    assert np.isfinite(epochs.get_data(picks="eeg")).all()
    assert len(epochs) >= 15


def test_damage_without_a_date(make_raw, tmp_path):
    raw = make_raw(seconds=10).crop(2.0, None)
    assert raw.info["meas_date"] is None
    braincodec_compress(raw, tmp_path / "a.bcz", block_seconds=2)
    with pytest.warns(RuntimeWarning, match="block 1 "):
        back = braincodec_decompress(damaged(tmp_path / "a.bcz", 1))
    start = back.time_as_index(back.annotations.onset[0] - back.first_time)[0]
    assert np.isnan(back.get_data()[0, start])
    assert not np.isnan(back.get_data()[0, start - 1])


def test_neighbours_are_one_stretch(compressed):
    path, _ = compressed
    with pytest.warns(RuntimeWarning, match=r"blocks 2 to 4 \(4 to 10 s\).*, block 8 \(16 to 18 s\)"):
        raw = braincodec_decompress(damaged(path, 2, 3, 4, 8))
    np.testing.assert_allclose(raw.annotations.duration, [1, 6, 2])


def test_strict_refuses(compressed):
    path, _ = compressed
    assert braincodec_decompress(path, strict=True).n_times == 4750
    with pytest.raises(ContractError, match=r"block 0 \(0 to 2 s\): the checksum does not fit; get the file again"):
        braincodec_decompress(damaged(path, 0), strict=True)


def test_cut_short(compressed):
    path, x = compressed
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(RuntimeWarning) as caught:
        raw = braincodec_decompress(path)
    texts = [str(each.message) for each in caught]
    assert "its index is damaged or missing" in texts[0]
    assert "missing; filled with NaN" in texts[1]
    there = np.isfinite(raw.get_data("eeg")).all(0)
    assert 1000 < there.sum() < 3500
    np.testing.assert_array_equal(raw.get_data()[:, there], x[:, there])


def test_a_lost_index_costs_nothing(compressed):
    path, x = compressed
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match="is damaged, but nothing is lost by it: its index") as caught:
        raw = braincodec_decompress(path, strict=True)
    assert len(caught) == 1
    np.testing.assert_array_equal(raw.get_data(), x)
    assert DAMAGED not in raw.annotations.description


def test_a_file_that_changes_while_it_is_open(compressed):
    path, _ = compressed
    raw = braincodec_decompress(path)
    content = bytearray(path.read_bytes())
    content[ContainerReader(path)._places[5] + 60] ^= 1
    path.write_bytes(content)
    assert raw.get_data(stop=100).shape == (5, 100)
    with pytest.raises(ContractError, match="Block 5 of a.bcz is damaged"):
        raw.get_data(start=2600, stop=2700)


def test_a_coder_that_gives_up(compressed, monkeypatch):
    path, _ = compressed
    raw = braincodec_decompress(path)

    def fail(*_):
        raise ValueError("of another version")

    monkeypatch.setattr(blocks, "decode_body", fail)
    with pytest.raises(ContractError, match=r"Block 0 of a.bcz is whole but cannot be decoded \(of another version\)"):
        raw.get_data(stop=10)


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        (None, TypeError, "A path is needed, got NoneType"),
        ("no.bcz", ContractError, "There is no file"),
        (".", ContractError, "is a folder"),
    ],
)
def test_no_file(tmp_path, what, error, match):
    with pytest.raises(error, match=match):
        braincodec_decompress(what if what is None else tmp_path / what)


def test_recordings_are_not_taken_for_compressed_ones(write_edf):
    with pytest.raises(ContractError, match="made.edf is not a file of braincodec_compress"):
        braincodec_decompress(write_edf())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Compress a recording of a few hundred bytes a block."""
    x = np.rint(20 * np.random.default_rng(0).standard_normal((3, 120))) * 1e-6
    x[2] = np.arange(120) % 3
    info = mne.create_info(["a", "b", "c"], 30.0, ["eeg", "eeg", "misc"])
    raw = mne.io.RawArray(x, info, first_samp=17, verbose="error")
    raw.set_meas_date(1e9)
    raw.set_annotations(mne.Annotations([0.5], [0.1], ["sz"]))
    return raw, tmp_path_factory.mktemp("fuzz") / "a.bcz"


@given(data=st.data())
def test_no_damage_gives_wrong_data(small, data):
    """Bits flipped, bytes lost, doubled or overwritten anywhere: the samples as they were, NaN, or one sentence."""
    raw, path = small
    mode = data.draw(st.sampled_from(["hybrid", "lossless"]))
    share = data.draw(st.sampled_from([0, 50]))
    whole_path = path.with_name(f"{mode}{share}.bcz")
    if not whole_path.exists():
        with pytest.MonkeyPatch.context() as patch:
            # With 0, even this small file gets a second header.
            patch.setattr(container, "_COPY_SHARE", share)
            braincodec_compress(raw, whole_path, mode=mode, block_seconds=1, report=False)
    content = bytearray(whole_path.read_bytes())
    size = len(content)
    for _ in range(data.draw(st.integers(1, 3))):
        # Every region: the header, the blocks, the second header, the index, the last bytes.
        at = data.draw(st.one_of(st.integers(0, size - 1), st.integers(0, 40), st.integers(size - 100, size - 1)))
        length = data.draw(st.integers(0, 200))
        kind = data.draw(st.sampled_from(["flip", "flip", "cut", "remove", "insert", "overwrite", "double", "zero"]))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at:]
        elif kind == "remove":
            del content[at : at + length]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=60))
        elif kind == "overwrite":
            content[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
        elif kind == "zero":
            content[at : at + length] = bytes(length)
        elif kind == "double":
            content[at:at] = content[at : at + length]
    path.write_bytes(content)
    refusal = None
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            back = braincodec_decompress(path)
            y = back.get_data()
        except ValueError as error:
            refusal = str(error)
    if refusal is not None:
        assert len(refusal) > 20
        assert refusal.count("\n") == 0
        return
    assert mne.utils.object_diff(back.info, raw.info) == ""
    assert back.first_samp == 17
    same = np.isclose(y, raw.get_data(), rtol=2e-7, atol=1e-18)
    lost = np.isnan(y)
    assert (same | lost).all()
    annotated = np.zeros(120, bool)
    for onset, duration, description in zip(
        back.annotations.onset, back.annotations.duration, back.annotations.description, strict=True
    ):
        if description == DAMAGED:
            start = round(30 * onset) - 17
            annotated[start : start + round(30 * duration)] = True
    np.testing.assert_array_equal(annotated, lost.any(0))
    assert list(back.annotations.description[back.annotations.description != DAMAGED]) == ["sz"]
