"""Every sentence that doc/bad_input.md quotes is what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import scipy
import torch

import mne_labram
from mne_labram import (
    AmplitudeTokenizer,
    BrainForgeInverse,
    EEGEmbedding,
    GramForRestoration,
    GramTokenizer,
    LabramForClassification,
    SignalContract,
    conform,
    gram_restore,
    labram_annotate,
    labram_embed,
    load_downstream_model,
)
from mne_labram.signal.positions import electrode_positions
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import electrodes_on_template
from mne_labram.source.inverse import fresh_network
from mne_labram.source.localizable import noise_in_microvolts
from mne_labram.weights import convert_official

PAGE = Path(__file__).resolve().parents[1] / "doc" / "bad_input.md"
SENTENCES = [line[2:] for line in PAGE.read_text(encoding="utf8").splitlines() if line.startswith("> ")]


def _raw(
    *ch_names: str, sfreq: float = 256.0, seconds: float = 30.0, microvolts: float = 20.0, kind: str = "eeg"
) -> mne.io.BaseRaw:
    """Make a recording that jumps between +a and -a, so that its median amplitude is a in every excerpt."""
    signs = np.resize(np.repeat([1.0, -1.0], 8), (len(ch_names), int(sfreq * seconds)))
    info = mne.create_info(list(ch_names), sfreq, kind)
    return mne.io.RawArray(1e-6 * microvolts * signs, info, verbose="error")


def _model() -> LabramForClassification:
    torch.manual_seed(0)
    options = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}
    return LabramForClassification(ch_names=["FP1", "FP2"], n_times=800, sfreq=200, n_outputs=2, **options)


def _gram() -> GramForRestoration:
    return GramForRestoration(ch_names=["Fp1", "Cz"], size="small", n_codes=8)


def _flat() -> mne.io.BaseRaw:
    raw = _raw("Fp1", "Fp2")
    return mne.io.RawArray(np.zeros((2, raw.n_times)), raw.info, verbose="error")


def _with_nan() -> mne.BaseEpochs:
    epochs = mne.make_fixed_length_epochs(_raw("Fp1", "Fp2", seconds=20), 4, preload=True, verbose="error")
    data = epochs.get_data()
    data[1] = np.nan
    return mne.EpochsArray(data, epochs.info, verbose="error")


def _warned(call: Callable[[], Any]) -> str:
    with pytest.warns(UserWarning, match="^The largest value") as caught:
        call()
    return str(caught[0].message)


def _evil(folder: Path) -> Path:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            import os

            return os.system, ("true",)

    torch.save({"model": Evil()}, folder / "evil.pth")
    return folder / "evil.pth"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


TEN = "Fp1 Fp2 F3 F4 C3 C4 P3 P4 O1 O2".split()


def _inverse(fresh: bool = False) -> BrainForgeInverse:
    network = fresh_network(embed_dim=8, num_layers=1)
    geometry = network.bind_channels(TEN).geometry
    positions, normals = np.split(geometry.positions.numpy().astype(float), 2, axis=1)
    n_sources = len(positions)
    apart = scipy.sparse.csr_array((n_sources, n_sources))
    model = SourceModel(
        TEN,
        electrode_positions(TEN)[:, :3],
        geometry.leadfield.numpy(),
        positions,
        normals,
        [np.arange(n_sources)],
        apart.astype(bool),
        np.full(n_sources, 0.03),
        apart,
        np.arange(n_sources),
    )
    return BrainForgeInverse(model, model=None if fresh else network)


def _changed(change: Callable[[np.ndarray], np.ndarray]) -> mne.io.BaseRaw:
    raw = _raw(*TEN)
    return mne.io.RawArray(change(raw.get_data()), raw.info, verbose="error")


def _evoked(change: Callable[[np.ndarray], np.ndarray]) -> mne.Evoked:
    raw = _changed(change).crop(0, 2)
    return mne.EvokedArray(raw.get_data(), raw.info, tmin=-0.5)


def _volume() -> mne.Forward:
    raw = _raw(*TEN).set_montage(mne.channels.make_standard_montage("colin27_1020"))
    head = mne.make_sphere_model("auto", "auto", raw.info, verbose="error")
    src = mne.setup_volume_source_space(pos=40.0, sphere=head, verbose="error")
    return mne.make_forward_solution(raw.info, None, src, head, verbose="error")


CASES: list[Callable[[Path], Any]] = [
    lambda folder: conform(_raw("Fp1", "Fp2", microvolts=20e6)),
    lambda folder: EEGEmbedding(_model(), ch_names=["Fp1", "Fp2"], sfreq=256).fit(
        _raw("Fp1", "Fp2", microvolts=20).get_data()[None]
    ),
    lambda folder: _warned(lambda: _model()(torch.full((1, 2, 800), 2e-5))),
    lambda folder: conform(_raw("Fp1", "Fp2"), assume_unit="uV"),
    lambda folder: conform(_raw("E1", "E2", "E3")),
    lambda folder: conform(_raw("MEG 0111", "MEG 0121", kind="mag")),
    lambda folder: conform(_raw("LA1", "LA2", kind="seeg")),
    lambda folder: conform(_raw("Fz", kind="misc")),
    lambda folder: conform(_raw("Fp1", "F3", "Fp1-F7", "F7-T7")),
    lambda folder: conform(_raw("Fp1-F7", "F7-T7", "T7-P7"), SignalContract(montages=("referential",))),
    lambda folder: conform(_raw("Fp1-F3", "F3-C3", "C3-P3")),
    lambda folder: labram_annotate(_raw("P3", "P4", "Pz"), _model()),
    lambda folder: conform(_raw("Fp1", seconds=0.5)),
    lambda folder: labram_embed(_raw("Fp1", "Fp2"), _model(), window=20),
    lambda folder: labram_embed(_raw("Fp1", "Fp2"), _model(), window=0.5),
    lambda folder: conform(_raw("Fp1", "Fp2", sfreq=100.0))[1].warnings[0],
    lambda folder: EEGEmbedding(_model()).fit_transform(_with_nan()),
    lambda folder: conform(_flat()),
    lambda folder: conform("nowhere.edf"),
    lambda folder: conform(_written(folder / "empty.edf", b"")),
    lambda folder: conform(_written(folder / "text.edf", b"no recording " * 100)),
    lambda folder: convert_official(_evil(folder), folder / "out.safetensors"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz"), method="spline"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz"), "all", method="spline"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz"), "Pz", method="spline"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz", "E1"), "E1", method="spline"),
    lambda folder: gram_restore(_raw("F3-C3", "C3-P3", "P3-O1"), "F3-C3", method="spline"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz"), "Cz", [(29.5, 2.0)], method="spline"),
    lambda folder: gram_restore(_raw("Fp1", "Fp2", "Cz"), "Cz", method="ridge", calibrate=False),
    lambda folder: _gram()(torch.ones(1, 2, 800), mask=torch.ones(1, 2, 4, dtype=torch.bool)),
    lambda folder: GramTokenizer(ch_names=["Fp1", "E7"], size="small"),
    lambda folder: GramTokenizer(ch_names=["Fp1", "Cz"], size="small", n_times=4000),
    lambda folder: _gram().set_tokenizer(GramTokenizer(ch_names=["Fp1", "Cz"], size="small")),
    lambda folder: AmplitudeTokenizer(amplitude="mulaw").decode(torch.full((1, 2, 8), 2001)),
    lambda folder: AmplitudeTokenizer().decode(torch.zeros(1, 2, 8, dtype=torch.int64)),
    lambda folder: load_downstream_model("model.pth"),
    lambda folder: _inverse().apply(_raw("E1", *TEN[1:])),
    lambda folder: _inverse().apply(_raw(*(f"E{number}" for number in range(1, 10)))),
    lambda folder: _inverse().apply(_raw("F3-C3", *TEN[1:])),
    lambda folder: _inverse().apply(_raw(*TEN[:7])),
    lambda folder: electrodes_on_template(_raw(*TEN, "E9").info),
    lambda folder: noise_in_microvolts(mne.Covariance(np.ones(9), TEN[:9], [], [], 10), TEN),
    lambda folder: source_model(_volume()),
    lambda folder: BrainForgeInverse("head-fwd.fif"),
    lambda folder: _inverse().apply(_raw(*TEN, microvolts=20e6)),
    lambda folder: _inverse().apply(_changed(lambda x: x + 1e-3 * np.arange(10)[:, None])),
    lambda folder: _inverse().apply(_evoked(lambda x: x + 1e-4 * np.arange(10)[:, None])),
    lambda folder: _inverse().apply(_changed(lambda x: np.where(np.arange(10)[:, None] == 4, np.nan, x))),
    lambda folder: _inverse().apply(_changed(lambda x: x * (np.arange(10)[:, None] >= 3))),
    lambda folder: _inverse()._check_size(10**7, "data"),
    lambda folder: _inverse(fresh=True).apply(_raw(*TEN)),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_quoted_sentences_are_what_is_said(number: int, tmp_path: Path) -> None:
    try:
        said = CASES[number](tmp_path)
    except (ValueError, TypeError) as error:
        said = str(error)
    assert said == SENTENCES[number]


def test_every_quoted_sentence_is_compared() -> None:
    assert len(CASES) == len(SENTENCES)
    assert all(re.fullmatch(r"[^\n]+\.", sentence) for sentence in SENTENCES)
    assert issubclass(mne_labram.ContractError, ValueError)


def test_docstrings_that_mne_fills_in_hold_no_per_cent() -> None:
    """Its ``verbose`` formats them with ``%``: "4 % and" becomes all of its own documentation."""
    package = Path(mne_labram.__file__).parent
    filled = [
        (file.name, node.name, ast.get_docstring(node) or "")
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(each, ast.Name) and each.id == "verbose" for each in node.decorator_list)
    ]
    assert len(filled) > 20
    assert not [(file, name) for file, name, text in filled if "%" in text]
