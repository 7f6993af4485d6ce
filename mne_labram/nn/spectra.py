"""Spectra of patches: an input feature, and what a tokenizer is trained to reconstruct."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mne_labram.nn.distributed import several_processes, sum_over_processes
from mne_labram.nn.full_precision import without_autocast

__all__ = ["SPECTRAL_TARGETS", "LogSpectrum", "SpectralTarget", "band_bins", "typical_log_power"]

#: Accepted by ``target=``.
SPECTRAL_TARGETS = ("amplitude+phase", "amplitude+sincos", "log_amplitude")

# Typical values of scalp EEG; they only have to be right to within a factor. Ours, from the recordings that the tests
# read (CHB-MIT, EEGMAT, EEGMMI).
_LOG_POWER_AT_1_HZ, _LOG_POWER_SLOPE, _LOG_POWER_SD = 6.0, -1.8, 1.5
_AMPLITUDE_MEAN, _AMPLITUDE_SD = 300.0, 900.0
# Square microvolts, and microvolts times samples, that count as nothing: below the noise of clinical amplifiers.
_POWER_FLOOR, _MAGNITUDE_FLOOR = 1e-3, 1.0
# Smallest divisor of a z-score: far below any signal's spread, and a flat sample gives 0 instead of NaN.
_MIN_STD = 1e-6


def typical_log_power(frequencies: Tensor) -> Tensor:
    """Evaluate the trend of scalp EEG: power falls with a power of frequency.

    Parameters
    ----------
    frequencies : Tensor, shape (n_bins,)
        Hz; values below 1 count as 1.

    Returns
    -------
    log_power : Tensor of float32, shape (n_bins,)
        Natural logarithm of square microvolts in a 1-Hz bin.
    """
    return _LOG_POWER_AT_1_HZ + _LOG_POWER_SLOPE * torch.log(frequencies.float().clamp_min(1.0))


def band_bins(patch_size: int, sfreq: float, band: tuple[float, float]) -> tuple[int, int]:
    """Find the bins of a real Fourier transform that lie in a band.

    Parameters
    ----------
    patch_size : int
        Samples in a patch.
    sfreq : float
        Sampling rate in Hz.
    band : tuple of float
        Lowest and highest frequency in Hz, both included.

    Returns
    -------
    start, stop : int
        Bins ``start`` to ``stop - 1``.

    Raises
    ------
    ValueError
        If no bin lies in the band, or the band is empty or above half the sampling rate.
    """
    low, high = band
    step = sfreq / patch_size
    start, stop = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1
    if not 0 <= low < high <= sfreq / 2 or start >= stop:
        raise ValueError(f"No Fourier bin of a {patch_size}-sample patch at {sfreq:g} Hz lies in {low:g}-{high:g} Hz.")
    return start, stop


class LogSpectrum(nn.Module):
    """Log power spectrum of patches in a band, centred and scaled for EEG in microvolts.

    Parameters
    ----------
    patch_size : int
        Samples in a patch.
    sfreq : float
        Sampling rate in Hz.
    band : tuple of float
        Lowest and highest frequency in Hz.
    taper : bool
        Apply a Hann window, so that slow drift does not leak into every bin. Without it, bins are those of the plain
        transform, which spectral targets are made of.

    Notes
    -----
    Ours. The patch's mean is removed. The power of a bin is that of a sinusoid of the same amplitude, in square
    microvolts. From its natural logarithm the trend of scalp EEG (:func:`typical_log_power`) is taken, and the rest
    divided by its spread, so that the feature is of order one without statistics that a checkpoint would have to carry.
    It is computed in float32 under autocast too, by a matrix product with two sinusoids per bin.
    """

    def __init__(
        self, patch_size: int, sfreq: float = 200.0, band: tuple[float, float] = (1.0, 45.0), *, taper: bool = True
    ) -> None:
        super().__init__()
        start, stop = band_bins(patch_size, sfreq, band)
        self.n_bins = stop - start
        time = torch.arange(patch_size, dtype=torch.float64, device="cpu")
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / patch_size) if taper else torch.ones_like(time)
        bins = torch.arange(start, stop, dtype=torch.float64, device="cpu")
        angles = 2 * math.pi / patch_size * torch.outer(time, bins)
        basis = torch.cat((angles.cos(), angles.sin()), dim=1) * (window / window.sum())[:, None]
        # Removing the patch's mean is linear too, so it goes into the same matrix. The factor 2 ** 0.5 makes the sum
        # of squares the mean power of a sinusoid.
        basis = (basis - basis.mean(dim=0, keepdim=True)) * math.sqrt(2.0)
        device = torch.get_default_device()
        trend = typical_log_power(bins * (sfreq / patch_size))
        self.register_buffer("basis", basis.float().to(device), persistent=False)
        self.register_buffer("trend", trend.to(device), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Compute the feature.

        Parameters
        ----------
        patches : Tensor, shape (..., patch_size)
            Signal in microvolts.

        Returns
        -------
        features : Tensor of float32, shape (..., n_bins)
            Log power, about zero mean and unit variance.
        """
        with without_autocast(patches.device):
            parts = patches.float() @ self.basis.float()
            power = parts[..., : self.n_bins].square() + parts[..., self.n_bins :].square()
            return (torch.log(power + _POWER_FLOOR) - self.trend) / _LOG_POWER_SD


class SpectralTarget(nn.Module):
    """What a tokenizer reconstructs of a patch: parts of its spectrum, each normalised.

    Parameters
    ----------
    kind : {"amplitude+phase", "amplitude+sincos", "log_amplitude"}
        ``"amplitude+phase"`` is official: magnitude and angle of all bins of the Fourier transform (Jiang et al. 2024,
        section 2.3; LaBraM, modeling_vqnsp.py). ``"amplitude+sincos"`` has the sine and cosine of the angle instead,
        which do not jump at +-pi (as LaBraM++ does, arXiv:2505.16724), and only the bins up to half the sampling rate,
        of which the others are mirror images. ``"log_amplitude"`` is the log magnitude within ``band``: of the three,
        what a code tells best of the signal, and least of the recording.
    patch_size : int
        Samples in a patch.
    sfreq : float
        Sampling rate in Hz.
    band : tuple of float
        Lowest and highest frequency of ``"log_amplitude"`` in Hz.

    Attributes
    ----------
    parts : dict of str to int
        Name and number of bins of each part, in the order of the model's output.
    mean, std : Tensor
        Running statistics of magnitudes over the training data (µV times samples): one number, or for
        ``"log_amplitude"`` one natural logarithm per bin. Before training, typical values of scalp EEG.

    Notes
    -----
    Magnitudes and angles are z-scored over each whole sample (channels, patches and bins together) as officially; a
    flat sample, which gives NaN there, gives zeros here. Sines and cosines are left as they are. Log magnitudes are
    z-scored per bin with the running statistics, so that the level of a sample is part of the target and the slope of
    the spectrum, common to all, is not.
    """

    mean: Tensor
    std: Tensor
    n_updates: Tensor

    def __init__(
        self,
        kind: str = "amplitude+phase",
        patch_size: int = 200,
        *,
        sfreq: float = 200.0,
        band: tuple[float, float] = (1.0, 45.0),
    ) -> None:
        super().__init__()
        if kind not in SPECTRAL_TARGETS:
            raise ValueError(f"target must be one of {', '.join(map(repr, SPECTRAL_TARGETS))}, got {kind!r}.")
        self.kind, self.patch_size = kind, patch_size
        half = patch_size // 2 + 1
        mean, std = torch.tensor(_AMPLITUDE_MEAN), torch.tensor(_AMPLITUDE_SD)
        if kind == "amplitude+phase":
            self.parts = {"amplitude": patch_size, "phase": patch_size}
        elif kind == "amplitude+sincos":
            self.parts = {"amplitude": half, "sine": half, "cosine": half}
        else:
            self._start, self._stop = band_bins(patch_size, sfreq, band)
            self.parts = {"log_amplitude": self._stop - self._start}
            # A sinusoid of power P has the magnitude patch_size / 2 * sqrt(2 P).
            power = typical_log_power(torch.arange(self._start, self._stop) * (sfreq / patch_size))
            mean = power / 2 + math.log(patch_size / math.sqrt(2))
            std = torch.full_like(mean, _LOG_POWER_SD / 2)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.long))

    @property
    def invertible(self) -> bool:
        """Whether a signal can be computed back: phases are part of the target."""
        return self.kind != "log_amplitude"

    def _magnitudes(self, spectrum: Tensor) -> Tensor:
        if self.kind == "log_amplitude":
            return torch.log(spectrum[..., self._start : self._stop].abs() + _MAGNITUDE_FLOOR)
        return spectrum.abs()

    @torch.no_grad()
    def update(self, patches: Tensor) -> None:
        """Move the running statistics towards those of a batch.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.

        Notes
        -----
        A plain average over the first hundred batches, an exponential one with weight 0.01 from then on. Under
        torch.distributed, the batch is that of all processes together.
        """
        with without_autocast(patches.device):
            values = self._magnitudes(_transform(patches, full=self.kind == "amplitude+phase"))
            values = values.flatten(0, -2) if self.kind == "log_amplitude" else values.flatten()
            std, mean, n = _std_mean(values)
        if n < 2:
            return
        weight = max(1.0 / (1 + int(self.n_updates)), 0.01)
        # First and second moments are averaged, not deviations: batches of different recordings differ in level, and
        # that is part of the spread.
        square = torch.lerp(self.std**2 + self.mean**2, (std**2 + mean**2).to(self.std.dtype), weight)
        self.mean.lerp_(mean.to(self.mean.dtype), weight)
        self.std.copy_((square - self.mean**2).clamp_min(_MIN_STD**2).sqrt())
        self.n_updates += 1

    @torch.no_grad()
    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        """Compute the target.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_chans, n_patches, patch_size)
            Signal in microvolts.

        Returns
        -------
        target : dict of str to Tensor of float32, shape (batch, n_chans, n_patches, n_bins)
            Its parts, in the order of ``parts``.
        """
        with without_autocast(patches.device):
            spectrum = _transform(patches, full=self.kind == "amplitude+phase")
            magnitudes = self._magnitudes(spectrum)
            if self.kind == "log_amplitude":
                return {"log_amplitude": (magnitudes - self.mean) / self.std}
            phase = spectrum.angle()
            if self.kind == "amplitude+phase":
                return {"amplitude": _z_score(magnitudes), "phase": _z_score(phase)}
            return {"amplitude": _z_score(magnitudes), "sine": phase.sin(), "cosine": phase.cos()}

    def invert(self, parts: dict[str, Tensor]) -> Tensor:
        """Compute the signal that has this spectrum.

        Parameters
        ----------
        parts : dict of str to Tensor, shape (..., n_bins)
            Predicted parts, normalised as :meth:`forward` returns them.

        Returns
        -------
        patches : Tensor, shape (..., patch_size)
            Signal in microvolts. Z-scoring took each sample's level away; the level returned is that of the running
            statistics.

        Raises
        ------
        ValueError
            If the target holds no phases.
        """
        if not self.invertible:
            raise ValueError(
                "Codes trained on 'log_amplitude' hold no phases, so no signal can be computed from them; "
                "train with target='amplitude+phase' or 'amplitude+sincos' to decode."
            )
        magnitudes = (parts["amplitude"].float() * self.std + self.mean).clamp_min(0.0)
        if self.kind == "amplitude+phase":
            # The angles of a real signal's transform are about uniform on (-pi, pi]: mean 0, variance pi^2 / 3.
            phase = parts["phase"].float() * (math.pi / math.sqrt(3.0))
            return torch.fft.ifft(torch.polar(magnitudes, phase), dim=-1).real
        phase = torch.atan2(parts["sine"].float(), parts["cosine"].float())
        return torch.fft.irfft(torch.polar(magnitudes, phase), n=self.patch_size, dim=-1)


def _std_mean(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Unbiased standard deviation and mean over the rows of all processes, and how many rows there are."""
    if not several_processes():
        if len(values) < 2:
            return values, values, len(values)
        return *torch.std_mean(values, dim=0), len(values)
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    values = values.to(wide)
    n = torch.tensor(float(len(values)), dtype=wide, device=values.device)
    total = values.sum(dim=0)
    sum_over_processes(n, total)
    mean = total / n
    squares = (values - mean).square().sum(dim=0)
    sum_over_processes(squares)
    return (squares / (n - 1).clamp_min(1)).sqrt(), mean, int(n)


def _transform(patches: Tensor, *, full: bool) -> Tensor:
    """Transform over the last axis, in float32 or better."""
    patches = patches if patches.dtype == torch.float64 else patches.float()
    return torch.fft.fft(patches, dim=-1) if full else torch.fft.rfft(patches, dim=-1)


def _z_score(values: Tensor) -> Tensor:
    """Z-score each sample over all its channels, patches and bins, with the unbiased standard deviation."""
    std, mean = torch.std_mean(values, dim=(1, 2, 3), keepdim=True)
    return (values - mean) / std.clamp_min(_MIN_STD)
