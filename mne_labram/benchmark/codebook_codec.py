"""Codes of the codec's codebooks as they are: so many bits each, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mne_labram.benchmark.rate_distortion import WINDOW, CodecRecording, Decoded
from mne_labram.weights.pretrained import load_pretrained

__all__ = ["CodebookCodec"]

# The level of a channel in a window, and how finely it is told (powers of 2 ** (1 / 64) µV).
_GAIN_BITS, _GAIN = 11, 64


class CodebookCodec:
    """BrainCodec as its authors use it: residual vector quantisation, and no entropy coder.

    Parameters
    ----------
    model : str
        Weights that come with the package.
    n_candidates : int
        Of the search for codes; 1 takes the nearest code of every codebook.

    Notes
    -----
    Every window of 4 s of a channel stands alone and takes the same bits: as many codebooks as the bitrate allows, and
    11 bits for its level, which are counted.
    """

    def __init__(self, model: str = "braincodec-tiny", *, n_candidates: int = 8) -> None:
        self.name = "codes"
        self.codec, self.n_candidates = load_pretrained(model).eval(), n_candidates

    def offers(self, bitrate: float) -> bool:
        """Tell whether there are codes for a bitrate.

        Parameters
        ----------
        bitrate : float
            Bits per second and channel.

        Returns
        -------
        offers : bool
            Whether some number of codebooks takes that, but for the level.
        """
        count = round(bitrate / self.codec.bitrate(1))
        return 1 <= count <= self.codec.n_codebooks and abs(self.codec.bitrate(count) / bitrate - 1) < 0.01

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        """Compress and decompress.

        Parameters
        ----------
        recordings : sequence of CodecRecording
            At the codec's rate.
        bitrate : float
            Bits per second and channel.

        Returns
        -------
        decoded : list of Decoded
            One for each recording.

        Raises
        ------
        ValueError
            If the codec has no codes for so few, or so many, bits.
        """
        if not self.offers(bitrate):
            raise ValueError(
                f"The codec has no codes for {bitrate:g} bit/s; it has {self.codec.n_codebooks} codebooks."
            )
        count = round(bitrate / self.codec.bitrate(1))
        return [self._one(recording, count) for recording in recordings]

    def _one(self, recording: CodecRecording, count: int) -> Decoded:
        length = round(WINDOW * recording.sfreq)
        x = np.zeros(recording.x.shape, np.float32)
        bits = 0.0
        for start in range(0, recording.x.shape[1], length):
            window = torch.from_numpy(recording.x[None, :, start : start + length].astype(np.float32))
            codes, gains = self.codec.codes(window, count, n_candidates=self.n_candidates)
            told = 2.0 ** ((_GAIN * gains.log2()).round() / _GAIN)
            x[:, start : start + length] = self.codec.decode(codes, window.shape[2], told)[0].numpy()
            bits += codes.numel() * np.log2(self.codec.n_codes) + _GAIN_BITS * gains.numel()
        return Decoded(x, bits=float(bits))
