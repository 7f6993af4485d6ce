"""Every real recording goes through check and labram_embed, or is refused by a right sentence."""

from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram import LabramForClassification, check, labram_embed, labram_tokenize, load_pretrained
from mne_labram.signal.conform import open_recording
from mne_labram.signal.contract import ContractError

FOLDERS = ("clinical_formats", "eegmat", "eegmmidb", "mi_openbci", "uci_eeg", "chbmit")
ENDINGS = (".edf", ".bdf", ".vhdr", ".set", ".eeg", ".fif")
# BioSemi's cap labels without positions; and a file whose samples change once a second.
REFUSED = {
    "eeglab_test.bdf": "numbered by the recorder",
    "test.edf": "numbered by the recorder",
    "eeglab_test.edf": "flat",
}
# A file made for testing readers: every second of every channel holds the same pulses.
SAME_EVERYWHERE = ("test.vhdr",)


def _recordings(folder: Path) -> list[Path]:
    """Return every file that is a recording by itself."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    # A BrainVision .eeg is the data of a .vhdr, and the Nihon Kohden folder holds a copy in EDF.
    return [path for path in files if not path.with_suffix(".vhdr").exists() or path.suffix == ".vhdr"]


@pytest.fixture(scope="module", params=["referential", "bipolar"])
def model(request):
    """Tiny models of both montages."""
    names = ["FP1-F7", "F7-T7"] if request.param == "bipolar" else ["CZ"]
    torch.manual_seed(0)
    small = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}
    return LabramForClassification(ch_names=names, n_times=800, sfreq=200, n_outputs=1, spatial="coordinates", **small)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_recording(shared_data, folder, model, capsys):
    """A recording of the model's montage goes through, unless it is known to be of no use; others are refused."""
    files = _recordings(shared_data / folder)
    assert files
    for fname in files[:8]:
        bipolar = folder == "chbmit"
        wanted = REFUSED.get(fname.name)
        if bipolar != (model.contract.montages == ("bipolar",)):
            # With several reasons to refuse, one is told.
            wanted = f"{wanted or 'montage'}|takes (bipolar|referential) ones only"
        report = check(fname, model.contract, match="position", line_freq=50)
        assert capsys.readouterr().out.strip()
        if wanted is None:
            assert report.ok, f"{fname}: {report.problems}"
            inst = open_recording(fname)
            epoched = isinstance(inst, mne.BaseEpochs)
            out = labram_embed(fname, model, window=None if epoched else 1.0, match="position", line_freq=50)
            expected = len(inst) if epoched else int(inst.n_times / inst.info["sfreq"])
            assert out.shape == (expected, 40), fname
            assert np.isfinite(out).all(axis=1).mean() > 0.5, fname
        else:
            assert not report.ok, fname
            with pytest.raises(ContractError, match=wanted) as error:
                labram_embed(fname, model, match="position", line_freq=50)
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 400


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_all_recordings_by_their_names(shared_data, folder):
    """Without anything said about them, every recording goes through the official table, or check says why not."""
    torch.manual_seed(0)
    names = ["FP1-F7"] if folder == "chbmit" else ["CZ"]
    small = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}
    model = LabramForClassification(ch_names=names, n_times=200, sfreq=200, n_outputs=1, **small)
    n_embedded = 0
    for fname in _recordings(shared_data / folder):
        report = check(fname, model.contract, print_report=False)
        if report.ok:
            out = labram_embed(fname, model)
            assert np.isfinite(out).all(axis=1).mean() > 0.9, fname
            n_embedded += 1
        else:
            assert fname.name in REFUSED, f"{fname}: {report.problems}"
            assert any(REFUSED[fname.name] in problem for problem in report.problems), report.problems
    assert n_embedded >= 4


def _out_of_the_box(fname: Path) -> None:
    """Embed and tokenize with the weights that ship, and nothing said."""
    contract = load_pretrained("labram-tiny").contract
    report = check(fname, contract, print_report=False)
    if fname.name in REFUSED:
        assert not report.ok, fname
        with pytest.raises(ContractError, match=REFUSED[fname.name]):
            labram_embed(fname)
        return
    assert report.ok, f"{fname}: {report.problems}"
    embedding = labram_embed(fname)
    assert embedding.shape[1:] == (128,)
    codes, found = labram_tokenize(fname, return_report=True)
    assert codes.shape[:2] == (len(embedding), len(found.ch_names))
    # The same windows are of no use to both.
    np.testing.assert_array_equal(np.isnan(embedding).any(axis=1), (codes == -1).any(axis=(1, 2)))
    assert np.isfinite(embedding).all(axis=1).mean() > 0.5, fname
    used = codes[codes >= 0]
    assert used.max() < load_pretrained("labram-tokenizer-tiny").n_codes
    # Codes say something of the signal: they are not all one.
    assert len(np.unique(used)) > 3 or fname.name in SAME_EVERYWHERE, fname


@pytest.mark.parametrize("folder", FOLDERS)
def test_weights_that_ship(shared_data, folder):
    """Every kind of recording goes through them."""
    for fname in _recordings(shared_data / folder)[::4][:3]:
        _out_of_the_box(fname)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_weights_that_ship_on_everything(shared_data, folder):
    """Every single recording does."""
    for fname in _recordings(shared_data / folder):
        _out_of_the_box(fname)
