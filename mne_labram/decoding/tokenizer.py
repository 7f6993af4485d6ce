"""Codes as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from mne_labram.decoding.base import EEGTransformer

__all__ = ["EEGTokenizer"]


class EEGTokenizer(EEGTransformer):
    """Turn windows into the codes of a tokenizer.

    Parameters
    ----------
    model : LabramTokenizer | BrainCodec | str | Path
        The tokenizer or codec, a checkpoint file, or a name of :func:`mne_labram.list_pretrained`.
    output : {"codes", "histogram"}
        ``"codes"``: one integer per channel and patch, channel after channel; ``X.reshape(-1, n_chans, n_patches)``
        gives them back as :func:`mne_labram.labram_tokenize` does. A codec has several codebooks, and one integer of
        each for every frame: ``X.reshape(-1, n_chans, n_frames, n_codebooks)``. ``"histogram"``: how often each of the
        ``n_codes`` codes occurs in the window (relative frequency), whatever the montage; of a codec, codebook after
        codebook, so that ``X.reshape(-1, n_codebooks, n_codes)`` adds up to 1 for each.
    channels : {"recording", "model"}
        Every channel of the data that has an embedding, or only those the model was built with.
    ch_names : list of str | None
        Channel names of arrays.
    sfreq : float | None
        Sampling rate of arrays in Hz.
    window, stride : float | None
        Window length and step in seconds for Raw; ``None``: the model's window, without overlap.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers where the recording's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file.
    on_unusable : {"raise", "keep"}
        What to do with windows that hold NaN, flat or clipped seconds: refuse, or keep them as rows of -1 (codes) or
        NaN (histogram).
    batch_size : int
        Windows per forward pass.
    precision : {"float32", "bf16", "auto"}
        Codes are compared between machines, so float32 is the default here.
    device : str | None
        ``None``: where the model is.

    Attributes
    ----------
    module_ : torch.nn.Module
        The tokenizer.
    ch_names_ : list of str
        Channels kept, in order.
    length_ : int
        Samples in a window at the model's rate.
    feature_names_ : list of str
        Names of the columns.
    n_features_in_ : int
        Channels of the data given to ``fit``.
    """

    _kind = "tokenize"

    def __init__(
        self,
        model: Any = "labram-tokenizer-tiny",
        output: str = "codes",
        *,
        channels: str = "recording",
        ch_names: list[str] | None = None,
        sfreq: float | None = None,
        window: float | None = None,
        stride: float | None = None,
        match: str = "name",
        assume_unit: str | None = None,
        line_freq: float | None = None,
        gaps: str = "raise",
        on_unusable: str = "raise",
        batch_size: int = 32,
        precision: str = "float32",
        device: str | None = None,
    ) -> None:
        self.model = model
        self.output = output
        self.channels = channels
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.window = window
        self.stride = stride
        self.match = match
        self.assume_unit = assume_unit
        self.line_freq = line_freq
        self.gaps = gaps
        self.on_unusable = on_unusable
        self.batch_size = batch_size
        self.precision = precision
        self.device = device

    def _by_channel(self) -> bool:
        if self.output not in ("codes", "histogram"):
            raise ValueError(f"output must be 'codes' or 'histogram', got {self.output!r}.")
        return self.output == "codes"

    def _features(self, out: np.ndarray) -> np.ndarray:
        if self._by_channel():
            return out.reshape(len(out), -1)
        # One codebook per column: a tokenizer has a single one and no dimension for it.
        columns = out.reshape(len(out), -1, 1 if out.ndim == 3 else out.shape[3])
        counts = np.full((len(out), columns.shape[2], self.module_.n_codes), np.nan)
        for row, codes in zip(counts, columns, strict=True):
            if codes[0, 0] >= 0:
                for own, stage in zip(row, codes.T, strict=True):
                    own[:] = np.bincount(stage, minlength=len(own)) / stage.size
        return counts.reshape(len(out), -1)

    def _names(self, ch_names: list[str], shape: tuple[int, ...]) -> list[str]:
        codes = range(self.module_.n_codes)
        if len(shape) == 2:
            if self._by_channel():
                return [f"{name}_patch{j}" for name in ch_names for j in range(shape[1])]
            return [f"code{i}" for i in codes]
        stages = range(shape[2])
        if self._by_channel():
            return [f"{name}_frame{j}_codebook{q}" for name in ch_names for j in range(shape[1]) for q in stages]
        return [f"codebook{q}_code{i}" for q in stages for i in codes]
