"""Every real recording goes through check and labram_embed, or is refused by a right sentence."""

from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from mne_labram import LabramForClassification, check, labram_embed
from mne_labram.signal.conform import open_recording
from mne_labram.signal.contract import ContractError

FOLDERS = ("clinical_formats", "eegmat", "eegmmidb", "mi_openbci", "uci_eeg", "chbmit")
ENDINGS = (".edf", ".bdf", ".vhdr", ".set", ".eeg", ".fif")


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
    return LabramForClassification(
        ch_names=names, n_times=800, sfreq=200, n_outputs=1, spatial="coordinates", **small
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_recording(shared_data, folder, model, capsys):
    """Exactly one of the two montages takes a recording; the other refuses it in one sentence."""
    files = _recordings(shared_data / folder)
    assert files
    for fname in files[:8]:
        report = check(fname, model.contract, match="position", line_freq=50)
        assert capsys.readouterr().out.strip()
        try:
            out = labram_embed(fname, model, window=1.0, match="position", line_freq=50)
        except ContractError as error:
            assert not report.ok, fname
            sentence = str(error)
            assert "\n" not in sentence
            assert len(sentence) < 400
            bipolar = folder == "chbmit"
            wanted = "bipolar" if bipolar == (model.contract.montages == ("referential",)) else None
            assert wanted is not None, f"{fname}: {sentence}"
            assert wanted in sentence or "referential" in sentence, f"{fname}: {sentence}"
        else:
            assert report.ok, f"{fname}: {report.problems}"
            inst = open_recording(fname)
            expected = len(inst) if isinstance(inst, mne.BaseEpochs) else int(inst.times[-1] + 1 / inst.info["sfreq"])
            assert out.shape == (expected, 40), fname
            assert np.isfinite(out).any(), fname
