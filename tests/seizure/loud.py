"""Detectors whose answer is known, and a recording for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import mne
import numpy as np
import torch

from mne_labram.models import NeuroStorm
from mne_labram.signal.vocabulary import TEN_TWENTY

SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}


class LoudSeizures(NeuroStorm):
    """A seizure is what is loud: the probability passes one half at 60 µV, on average over channels."""

    def second_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (batch, n_seconds, n_outputs); of several types, the last one if Fp1 is the loudest."""
        seconds = x.unflatten(2, (-1, 200))
        rms = seconds.square().mean(dim=3).sqrt()
        logit = (rms.mean(dim=1) - 60.0) / 16.0
        others = [torch.zeros_like(logit), logit]
        if self.n_outputs == 3:
            frontal = (rms[:, 0] - rms.mean(dim=1)) / 16.0
            others = [torch.zeros_like(logit), logit - frontal, logit + frontal]
        return torch.stack(others, dim=-1)


def loud_detector(**options: object) -> LoudSeizures:
    """Return a detector for windows of 4 s."""
    torch.manual_seed(0)
    # As a model that was trained on both kinds of recordings says.
    contract = {"montages": ["referential", "bipolar"]}
    arguments = {"ch_names": list(TEN_TWENTY), "n_times": 800, "sfreq": 200, "contract": contract}
    return LoudSeizures(**arguments, **{**SMALL, **options}).eval()


def loud_raw(
    edit: Callable[[np.ndarray], object] | None = None, seconds: float = 120.0, dated: bool = True
) -> mne.io.RawArray:
    """Return a recording that is loud from 40 to 60 s, most of all at F7 and T7; its first sample is at 30 s."""
    rng = np.random.default_rng(0)
    x = 20 * rng.normal(size=(19, round(200 * (30 + seconds))))
    x[:, 70 * 200 : 90 * 200] *= 6
    x[[2, 7], 70 * 200 : 90 * 200] *= 2
    if edit is not None:
        edit(x[:, 30 * 200 :])
    names = [name.title() for name in TEN_TWENTY]
    raw = mne.io.RawArray(1e-6 * x, mne.create_info(names, 200.0, "eeg"), verbose="error")
    if dated:
        raw.set_meas_date(datetime(2024, 5, 1, 12, tzinfo=UTC))
    return raw.crop(30, None)
