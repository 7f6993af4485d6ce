"""The codecs to beat: DCT, wavelet, and DCT after a Karhunen-Loève transform over channels, each with real bits.

Windows of 4 s are coded independently of one another. All is trained on recordings of other subjects: histograms,
centroids, and the transform over channels. What is meant is shared/reference/baselines.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from mne_labram.benchmark.coefficient_coding import CoefficientCoder
from mne_labram.benchmark.rate_distortion import CodecRecording, Decoded

__all__ = [
    "DCT",
    "KLTandDCT",
    "TransformCodec",
    "Wavelet",
    "dct_codec",
    "klt_codec",
    "wavelet_codec",
]

#: Length of a window in seconds.
WINDOW = 4.0
#: Lower edges of the groups of frequencies in Hz that have histograms of their own.
GROUP_EDGES = (0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60, 75)
# The scale of a window in 1/4 octaves from 2^-8 microvolts on in 6 bits; its step relative to it in 1/8 octaves from
# 2^3 on in 7: the 13 side bits. At a variable rate there is one step for the whole recording, in 16 bits.
_SCALE_BITS, _SCALES_PER_OCTAVE, _LEAST_SCALE = 6, 4, -8
_STEP_BITS, _STEPS_PER_OCTAVE, _COARSEST = 7, 8, 3.0
_HEADER_BITS = 16
# Every how many training windows are looked at: neighbours say little that is new.
_SKIP = 2
_WAVELET, _WAVELET_LEVELS = "bior4.4", 6


class Transform(Protocol):
    """Windows to rows of coefficients and back."""

    groups: np.ndarray
    kinds: int
    rows_share_scale: bool

    def fit(self, recordings: Sequence[np.ndarray]) -> None:
        """Learn from windows of training recordings, each of shape (n_windows, n_chans, n_times)."""

    def forward(self, windows: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return coefficients, shape (n_windows, n_rows, n_coefs), and what the inverse has to know."""

    def inverse(self, coefficients: np.ndarray, aside: Any) -> np.ndarray:
        """Return windows."""

    def aside_bits(self, aside: Any) -> int:
        """Tell what it takes to write down what the inverse has to know of a recording."""


class DCT:
    """Orthonormal DCT-II of each channel's window.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.

    Notes
    -----
    Up to half of the sampling rate, though the signal ends at 75 Hz: a DCT sees a jump in the slope where a window
    ends, and part of that lies above. Where signals are large it is most of the error from 512 bit/s/channel on.
    """

    kinds = 1
    rows_share_scale = False

    def __init__(self, sfreq: float) -> None:
        self.n_times = round(WINDOW * sfreq)
        frequencies = np.arange(self.n_times) / (2 * WINDOW)
        self.groups = np.searchsorted(GROUP_EDGES, frequencies, side="right") - 1

    def fit(self, recordings: Sequence[np.ndarray]) -> None:
        """There is nothing to learn."""

    def forward(self, windows: np.ndarray) -> tuple[np.ndarray, None]:
        """Transform; see Transform."""
        from scipy.fft import dct

        return dct(windows.astype(np.float64), norm="ortho", axis=-1), None

    def inverse(self, coefficients: np.ndarray, aside: None) -> np.ndarray:
        """Transform back; see Transform."""
        from scipy.fft import idct

        return idct(coefficients, norm="ortho", axis=-1)

    def aside_bits(self, aside: None) -> int:
        """Nothing; see Transform."""
        return 0


class Wavelet:
    """Six levels of the biorthogonal wavelet 4.4, periodic in each channel's window.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    """

    kinds = 1
    rows_share_scale = False

    def __init__(self, sfreq: float) -> None:
        self.n_times = round(WINDOW * sfreq)
        parts = self._parts(np.zeros(self.n_times))
        self.lengths = [len(part) for part in parts]
        self.groups = np.repeat(np.arange(len(parts)), self.lengths)

    @staticmethod
    def _parts(windows: np.ndarray) -> list[np.ndarray]:
        import pywt

        return pywt.wavedec(windows, _WAVELET, mode="periodization", level=_WAVELET_LEVELS, axis=-1)

    def fit(self, recordings: Sequence[np.ndarray]) -> None:
        """There is nothing to learn."""

    def forward(self, windows: np.ndarray) -> tuple[np.ndarray, None]:
        """Transform; see Transform."""
        return np.concatenate(self._parts(windows.astype(np.float64)), axis=-1), None

    def inverse(self, coefficients: np.ndarray, aside: None) -> np.ndarray:
        """Transform back; see Transform."""
        import pywt

        parts = np.split(coefficients, np.cumsum(self.lengths)[:-1], axis=-1)
        return pywt.waverec(parts, _WAVELET, mode="periodization", axis=-1)[..., : self.n_times]

    def aside_bits(self, aside: None) -> int:
        """Nothing; see Transform."""
        return 0


class KLTandDCT(DCT):
    """Principal components over channels of all training recordings together, then the DCT.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_channels : int
        Channels of all recordings.
    tuned : bool
        Beyond shared/reference/baselines.md: every component has histograms of its own, and channels are divided by
        their root mean square over the recording (8 bits each), which is what the percentage of every channel asks for.
    """

    rows_share_scale = True

    def __init__(self, sfreq: float, n_channels: int, *, tuned: bool = False) -> None:
        super().__init__(sfreq)
        self.n_channels, self.tuned = n_channels, tuned
        self.kinds = n_channels if tuned else 1

    def _channel_scale(self, windows: np.ndarray) -> np.ndarray | None:
        if not self.tuned:
            return None
        level = np.sqrt(np.mean(windows.astype(np.float64) ** 2, axis=(0, 2)))
        return 2.0 ** (np.rint(8 * np.log2(np.maximum(level, 2.0**-8))) / 8)

    def fit(self, recordings: Sequence[np.ndarray]) -> None:
        """Find the components; recordings count alike."""
        covariance = np.zeros((self.n_channels, self.n_channels))
        for windows in recordings:
            coefficients, _ = super().forward(windows)
            scale = self._channel_scale(windows)
            if scale is not None:
                coefficients = coefficients / scale[:, None]
            covariance += np.einsum("wik,wjk->ij", coefficients, coefficients) / len(windows)
        self.components = np.linalg.eigh(covariance)[1][:, ::-1].T

    def forward(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Transform; see Transform."""
        coefficients, _ = super().forward(windows)
        scale = self._channel_scale(windows)
        if scale is not None:
            coefficients = coefficients / scale[:, None]
        return np.matmul(self.components, coefficients), scale

    def inverse(self, coefficients: np.ndarray, aside: np.ndarray | None) -> np.ndarray:
        """Transform back; see Transform."""
        channels = np.matmul(self.components.T, coefficients)
        return super().inverse(channels if aside is None else channels * aside[:, None], None)

    def aside_bits(self, aside: np.ndarray | None) -> int:
        """8 for the scale of each channel; see Transform."""
        return 0 if aside is None else 8 * len(aside)


class TransformCodec:
    """A transform, and the coder of its coefficients, as a codec of recordings.

    Parameters
    ----------
    name : str
        What it is called in tables.
    transform : Transform
        What makes coefficients of windows.
    hard : bool
        Every channel has the same number of bits in every window, and its window gets the finest step that they
        suffice for. Otherwise there is one step, relative to the scale of each window, such that the bits suffice on
        the whole.
    over : {"recording", "data set"}
        What a variable rate is held to: each recording, or all that are coded together, with one step.

    Raises
    ------
    ValueError
        If ``over`` is neither, or the rate is hard and rows share a scale.
    """

    def __init__(self, name: str, transform: Transform, *, hard: bool = False, over: str = "recording") -> None:
        if over not in ("recording", "data set"):
            raise ValueError(f"over must be 'recording' or 'data set', got {over!r}.")
        if hard and transform.rows_share_scale:
            raise ValueError("A hard budget for each channel takes a transform that leaves channels apart.")
        self.name, self.transform, self.hard, self.over = name, transform, hard, over

    def fit(self, recordings: Sequence[CodecRecording]) -> Self:
        """Learn the transform, histograms and centroids.

        Parameters
        ----------
        recordings : sequence of CodecRecording
            Of training subjects.

        Returns
        -------
        self : TransformCodec
            Fitted.
        """
        windows = [self._windows(recording.x)[::_SKIP] for recording in recordings]
        self.transform.fit(windows)
        relative = np.concatenate([self._relative(each)[0] for each in windows])
        self.coder = CoefficientCoder(self.transform.groups, self.transform.kinds)
        self.coder.fit(relative, self._kinds(len(relative)))
        return self

    def _windows(self, x: np.ndarray) -> np.ndarray:
        """Cut channels into windows; the last one goes on as its mirror image."""
        length = self.transform.n_times
        x = np.pad(x, ((0, 0), (0, -x.shape[1] % length)), mode="symmetric")
        return x.reshape(len(x), -1, length).swapaxes(0, 1)

    def _kinds(self, n_rows: int) -> np.ndarray:
        return np.arange(n_rows) % self.transform.kinds

    def _relative(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Return rows relative to the scale of their window, these scales as they are coded, and what is aside."""
        coefficients, aside = self.transform.forward(windows)
        axes = (1, 2) if self.transform.rows_share_scale else 2
        level = np.sqrt(np.mean(coefficients**2, axis=axes, keepdims=True))
        number = np.rint(_SCALES_PER_OCTAVE * (np.log2(np.maximum(level, 1e-9)) - _LEAST_SCALE))
        scale = 2.0 ** (np.clip(number, 0, 2**_SCALE_BITS - 1) / _SCALES_PER_OCTAVE + _LEAST_SCALE)
        relative = (coefficients / scale).astype(np.float32).reshape(-1, coefficients.shape[2])
        return relative, scale, aside

    def code(self, recordings: Sequence[CodecRecording], bitrate: float) -> list[Decoded]:
        """Compress and decompress.

        Parameters
        ----------
        recordings : sequence of CodecRecording
            What is coded.
        bitrate : float
            Bits per second and channel.

        Returns
        -------
        decoded : list of Decoded
            One for each recording.
        """
        prepared = [self._relative(self._windows(recording.x)) for recording in recordings]
        if self.hard:
            return [
                self._decoded(recording, parts, self._hard_steps(parts[0], bitrate))
                for recording, parts in zip(recordings, prepared, strict=True)
            ]
        together = [prepared] if self.over == "data set" else [[parts] for parts in prepared]
        steps = [self._common_step(some, bitrate) for some in together for _ in some]
        return [
            self._decoded(recording, parts, np.full(len(parts[0]), step))
            for recording, parts, step in zip(recordings, prepared, steps, strict=True)
        ]

    def _hard_steps(self, relative: np.ndarray, bitrate: float) -> np.ndarray:
        """Return the finest step of each row whose bits suffice."""
        budget = bitrate * WINDOW - _SCALE_BITS - _STEP_BITS
        best = np.zeros(len(relative), dtype=int)
        # Windows whose bits are far from sufficing at this step need not be asked about finer ones.
        asked = np.arange(len(relative))
        for number in range(2**_STEP_BITS):
            steps = np.full(len(asked), 2.0 ** (_COARSEST - number / _STEPS_PER_OCTAVE))
            bits = self.coder.bits(self.coder.quantize(relative[asked], steps), steps)
            best[asked[bits <= budget]] = number
            asked = asked[bits <= 1.5 * budget + 32]
            if not len(asked):
                break
        return 2.0 ** (_COARSEST - best / _STEPS_PER_OCTAVE)

    def _common_step(self, prepared: Sequence[tuple[np.ndarray, np.ndarray, Any]], bitrate: float) -> float:
        """Return the step at which all of these take the bits that they may."""
        n_rows = sum(len(relative) for relative, _, _ in prepared)
        aside = sum(self.transform.aside_bits(each) + _HEADER_BITS for _, _, each in prepared)
        scales = sum(_SCALE_BITS * scale.size for _, scale, _ in prepared)
        budget = bitrate * WINDOW * n_rows - aside - scales
        fine, coarse = _COARSEST - 2**_STEP_BITS / _STEPS_PER_OCTAVE, _COARSEST
        for _ in range(16):
            middle = 0.5 * (fine + coarse)
            bits = 0.0
            for relative, _, _ in prepared:
                steps = np.full(len(relative), 2.0**middle)
                bits += self.coder.bits(self.coder.quantize(relative, steps), steps, self._kinds(len(relative))).sum()
            fine, coarse = (middle, coarse) if bits > budget else (fine, middle)
        return 2.0**coarse

    def _decoded(
        self, recording: CodecRecording, parts: tuple[np.ndarray, np.ndarray, Any], steps: np.ndarray
    ) -> Decoded:
        relative, scale, aside = parts
        kinds = self._kinds(len(relative))
        q = self.coder.quantize(relative, steps)
        words = self.coder.encode(q, steps, kinds)
        side = scale.size * (_SCALE_BITS + _STEP_BITS * self.hard)
        side += 0 if self.hard else _HEADER_BITS + self.transform.aside_bits(aside)
        n_windows = len(scale)
        coefficients = self.coder.dequantize(q, steps).reshape(n_windows, -1, q.shape[1]) * scale
        windows = self.transform.inverse(coefficients, aside)
        x = windows.swapaxes(0, 1).reshape(windows.shape[1], -1)[:, : recording.x.shape[1]]
        return Decoded(
            x.astype(np.float32),
            bits=32 * len(words) + side,
            ideal_bits=float(self.coder.bits(q, steps, kinds).sum()) + side,
        )


def dct_codec(sfreq: float = 200.0, *, hard: bool = True, over: str = "recording") -> TransformCodec:
    """Make the codec of the DCT, to be fitted.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    hard, over
        See :class:`TransformCodec`.

    Returns
    -------
    codec : TransformCodec
        ``"DCT, hard"`` or ``"DCT, variable"``.
    """
    return TransformCodec(f"DCT, {'hard' if hard else 'variable'}", DCT(sfreq), hard=hard, over=over)


def wavelet_codec(sfreq: float = 200.0, *, over: str = "recording") -> TransformCodec:
    """Make the codec of the wavelet, at a variable rate, to be fitted.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    over
        See :class:`TransformCodec`.

    Returns
    -------
    codec : TransformCodec
        ``"wavelet, variable"``.
    """
    return TransformCodec("wavelet, variable", Wavelet(sfreq), over=over)


def klt_codec(
    sfreq: float = 200.0, n_channels: int = 19, *, tuned: bool = False, over: str = "recording"
) -> TransformCodec:
    """Make the codec of the Karhunen-Loève transform and DCT, at a variable rate, to be fitted.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_channels, tuned
        See :class:`KLTandDCT`.
    over
        See :class:`TransformCodec`.

    Returns
    -------
    codec : TransformCodec
        ``"KLT+DCT, variable"``, or ``"KLT+DCT tuned, variable"``.
    """
    name = f"KLT+DCT{' tuned' if tuned else ''}, variable"
    return TransformCodec(name, KLTandDCT(sfreq, n_channels, tuned=tuned), over=over)
