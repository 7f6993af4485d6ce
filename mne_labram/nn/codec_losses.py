"""How far a reconstructed signal is from the true one: in its samples, its line length and its spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mne_labram.nn.full_precision import without_autocast

__all__ = ["N_FFTS", "line_length_loss", "magnitudes", "spectral_loss"]

#: Window lengths of the published spectral loss (BrainCodec, utils/loss.py): 2 ** 5 to 2 ** 11.
N_FFTS = (32, 64, 128, 256, 512, 1024, 2048)


def line_length_loss(reconstruction: Tensor, target: Tensor, *, window: int = 128, hop: int = 64) -> Tensor:
    """Compare line lengths of windows.

    Parameters
    ----------
    reconstruction, target : Tensor, shape (..., n_times)
        Signals.
    window, hop : int
        Samples of a window, and from one window to the next. Signals that are shorter are one window.

    Returns
    -------
    loss : Tensor, shape ()
        Mean absolute difference of ``sum |x[t + 1] - x[t]|`` over the windows. Windows in which the target does not
        move are left out.

    Raises
    ------
    ValueError
        If signals have fewer than 2 samples.

    Notes
    -----
    BrainCodec, utils/loss.py, with its windows of 128 samples every 64. What is left out there too are windows of flat
    channels.
    """
    n_times = target.shape[-1]
    if n_times < 2:
        raise ValueError(f"Line length needs at least 2 samples, got {n_times}.")
    window = min(window, n_times)
    lengths, wanted = (
        x.float().diff(dim=-1).abs().unfold(-1, window - 1, hop).sum(dim=-1) for x in (reconstruction, target)
    )
    moving = wanted > 0
    return ((lengths - wanted).abs() * moving).sum() / moving.sum().clamp_min(1)


def magnitudes(x: Tensor, n_fft: int, *, power: float = 1.0, normalized: bool = False) -> Tensor:
    """Compute a spectrogram.

    Parameters
    ----------
    x : Tensor, shape (..., n_times)
        Signals of at least ``n_fft // 2 + 1`` samples.
    n_fft : int
        Samples of the Hann window, which goes on by a quarter of them.
    power : float
        Of the magnitudes: 1 or 2.
    normalized : bool
        Divide by the root of the window's summed squares.

    Returns
    -------
    spectrogram : Tensor of float32, shape (..., n_fft // 2 + 1, n_frames)
        Frames are centred; ends are reflected.
    """
    with without_autocast(x.device):
        flat = x.float().reshape(-1, x.shape[-1])
        taper = torch.hann_window(n_fft, device=x.device, dtype=torch.float32)
        complex_ = torch.stft(flat, n_fft, hop_length=n_fft // 4, window=taper, return_complex=True)
        spectrum = torch.view_as_real(complex_).square().sum(dim=-1)
        if normalized:
            spectrum = spectrum / taper.square().sum()
        if power == 1.0:
            # The root's slope at zero is infinite.
            spectrum = spectrum.clamp_min(1e-12).sqrt()
        return spectrum.unflatten(0, x.shape[:-1])


def _fitting(n_ffts: Sequence[int], n_times: int) -> list[int]:
    """Leave out windows that are longer than the signal."""
    fitting = [n_fft for n_fft in n_ffts if n_fft <= n_times]
    if not fitting:
        raise ValueError(f"A signal of {n_times} samples is shorter than the shortest window, of {min(n_ffts)}.")
    return fitting


def spectral_loss(reconstruction: Tensor, target: Tensor, *, n_ffts: Sequence[int] = N_FFTS) -> Tensor:
    """Compare power spectrograms at several resolutions.

    Parameters
    ----------
    reconstruction, target : Tensor, shape (..., n_times)
        Signals.
    n_ffts : sequence of int
        Window lengths in samples; those that are longer than the signal are left out.

    Returns
    -------
    loss : Tensor, shape ()
        Sum over resolutions of ``(|d|_1 + |d|_2) / n`` of the difference ``d`` of ``n`` powers.

    Raises
    ------
    ValueError
        If all windows are longer than the signal.

    Notes
    -----
    BrainCodec, utils/loss.py, after EnCodec (Défossez et al. 2022, arXiv:2210.13438, section 3.4), which takes mel
    bands; EEG has none. ``torchaudio.transforms.Spectrogram(power=2, normalized=True)`` in the original.
    """
    terms = []
    for n_fft in _fitting(n_ffts, target.shape[-1]):
        powers, wanted = (magnitudes(x, n_fft, power=2.0, normalized=True) for x in (reconstruction, target))
        difference = powers - wanted
        terms.append((difference.abs().sum() + torch.linalg.vector_norm(difference)) / max(1, difference.numel()))
    return torch.stack(terms).sum()
