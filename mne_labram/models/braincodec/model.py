"""BrainCodec: a neural codec that turns every channel of a signal into a few codes per second, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.braincodec.coding import CodingMixin
from mne_labram.models.braincodec.official import build_official
from mne_labram.models.labram.inputs import batch_signal, with_arrays
from mne_labram.nn.kmeans import perplexity
from mne_labram.nn.lapped_transform import LappedAnalysis, LappedSynthesis
from mne_labram.nn.quantize import ResidualVectorQuantizer
from mne_labram.nn.seanet import SEANetDecoder, SEANetEncoder

__all__ = ["BrainCodec"]


class BrainCodec(CodingMixin, EEGModuleMixin, nn.Module):
    r"""Neural codec for EEG and iEEG, from Carzaniga et al. (2025) [braincodec]_.

    :bdg-danger:`Foundation Model` :bdg-success:`Convolution`

    A convolutional encoder (SEANet, from EnCodec [encodec]_) turns every ``stride`` samples of a channel into a latent,
    a residual vector quantiser replaces it by one code of each of its codebooks, and a convolutional decoder turns
    codes back into the signal. Every channel is coded by itself, so that any montage can be; a window may have any
    length, and what comes back is as long. Using fewer codebooks gives a lower bitrate, if the model was trained for it
    (``quantizer_dropout``).

    The defaults are the published sizes; of the published configuration the rate differs, which is
    ``sfreq=512, n_times=2048`` there. No weights were ever published.

    Parameters
    ----------
    n_outputs : None
        Not used; a codec has no classes.
    n_chans : int | None
        Number of channels; only checked against the names. The model takes any number.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; ``None``: the contract's, or 200.
    ch_names : list of str | None
        Names of the channels, which the model does not need: they are kept for those who do.
    ratios : sequence of int
        Strides of the decoder, in this order. Their product is the number of samples in a frame.
    n_filters, max_filters : int
        Filters at the signal's own rate, doubled with every stride, and how many there are at most.
    dim : int
        Width of a latent.
    n_residual_layers, dilation_base, compress : int
        Residual blocks per stride, how much farther every next one looks, and by how much it narrows the signal.
    kernel_size, last_kernel_size, residual_kernel_size : int
        Taps of the first and the last convolution, and of those in residual blocks.
    n_codebooks, codebook_size : int
        Codes per frame, and how many there are to choose from.
    codebook_dim, cosine, commitment, decay, kmeans_init, dead_code_threshold, quantizer_dropout
        See :class:`mne_labram.nn.quantize.ResidualVectorQuantizer`.
    linear_path : bool
        Ours: add a lapped transform to the encoder and its inverse to the decoder, both learned, which start as the
        MDCT; the last convolutions start at 0. Before it has learned anything, the model then is a linear transform
        that loses nothing where ``dim`` is ``stride`` (:mod:`mne_labram.nn.lapped_transform`).
    gain : bool
        Ours: divide every channel of a window by its root mean square first, so that all are coded with the same
        relative error. The levels must be kept beside the codes (:meth:`codes`).
    input_scale : float
        Microvolts per unit inside; 1 as published, and without effect with ``gain``.
    drop_prob : float
        Dropout of what residual blocks add.
    activation : type of nn.Module
        Class of the activation.
    seed : int
        Of the codebooks: initial codes, k-means, revival and drop-out.
    contract : SignalContract | dict | None
        How the signal was prepared: by default not at all, as published. Its rate is that of the model if ``sfreq`` is
        None.

    Attributes
    ----------
    ch_names : list of str
        Names of the channels; empty where none were given.
    stride : int
        Samples in a frame.
    sfreq : float
        Sampling rate in Hz.

    Raises
    ------
    ValueError
        If a size makes no network, two arguments contradict one another, or the stride is odd with ``linear_path``.

    Notes
    -----
    ``forward`` warns once when a batch looks like volts, and raises ValueError on NaN. A constant channel is coded like
    any other; a channel of zeros has the level 0.001 µV.

    The authors' code differs in that it gives back whole frames, which may be more samples than went in.

    References
    ----------
    .. [braincodec] Carzaniga, F. S., Hoppeler, G. T., Hersche, M., Schindler, K., & Rahimi, A. (2025). The Case for
       Cleaner Biosignals: High-fidelity Neural Compressor Enables Transfer from Cleaner iEEG to Noisier EEG. The
       Thirteenth International Conference on Learning Representations. https://github.com/IBM/eeg-ieeg-brain-compressor
    .. [encodec] Défossez, A., Copet, J., Synnaeve, G., & Adi, Y. (2022). High Fidelity Neural Audio Compression.
       arXiv:2210.13438.

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models import BrainCodec
    >>> codec = BrainCodec(sfreq=512, n_filters=4, max_filters=16, kmeans_init=False).eval()
    >>> x = 20 * torch.randn(1, 3, 2000)
    >>> codes = codec.encode(x)
    >>> codes.shape, codec.decode(codes, 2000).shape, codec.bits_per_second
    (torch.Size([1, 3, 32, 4]), torch.Size([1, 3, 2000]), 256.0)
    """

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        ratios: Sequence[int] = (2, 2, 2, 2, 2, 2),
        n_filters: int = 16,
        max_filters: int = 256,
        dim: int = 64,
        n_residual_layers: int = 1,
        dilation_base: int = 2,
        compress: int = 2,
        kernel_size: int = 3,
        last_kernel_size: int = 3,
        residual_kernel_size: int = 3,
        n_codebooks: int = 4,
        codebook_size: int = 256,
        codebook_dim: int | None = None,
        cosine: bool = False,
        commitment: float | None = None,
        decay: float = 0.99,
        kmeans_init: bool = True,
        dead_code_threshold: float = 2.0,
        quantizer_dropout: float = 0.0,
        linear_path: bool = False,
        gain: bool = False,
        input_scale: float = 1.0,
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.ELU,
        seed: int = 0,
        contract: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        self._settle_signal(chs_info, ch_names, input_scale, contract)
        sizes = {
            "n_filters": n_filters,
            "max_filters": max_filters,
            "dim": dim,
            "n_residual_layers": n_residual_layers,
            "kernel_size": kernel_size,
            "last_kernel_size": last_kernel_size,
            "residual_kernel_size": residual_kernel_size,
            "dilation_base": dilation_base,
            "compress": compress,
            "activation": activation,
            "drop_prob": drop_prob,
        }
        self.gain = bool(gain)
        self.encoder = SEANetEncoder(ratios, **sizes)
        self.linear_encoder = LappedAnalysis(dim, self.encoder.stride) if linear_path else None
        self.quantizer = ResidualVectorQuantizer(
            dim,
            n_codebooks=n_codebooks,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            cosine=cosine,
            commitment=commitment,
            decay=decay,
            kmeans_init=kmeans_init,
            dead_code_threshold=dead_code_threshold,
            quantizer_dropout=quantizer_dropout,
            seed=seed,
        )
        self.linear_decoder = LappedSynthesis(dim, self.encoder.stride) if linear_path else None
        self.decoder = SEANetDecoder(ratios, **sizes)
        if linear_path:
            for last in (self.encoder.last, self.decoder.last):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self._record(ratios=[int(ratio) for ratio in ratios])

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor | None]:
        """Code a signal and decode it.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at the model's rate; any number of channels and samples.
        return_features : bool
            Return everything else too.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            What is left of the signal, in microvolts.
        features : dict
            If ``return_features``: ``"features"``, the latents, shape (batch, n_chans * n_frames, dim), channel after
            channel; ``"cls_token"``, None; ``"codes"``, shape (batch, n_chans, n_frames, n_codebooks);
            ``"quantized"``, shape (batch, n_chans, n_frames, dim); and ``"reconstruction"``.

        Raises
        ------
        ValueError
            If the shape is not that of windows, or values are not finite.

        Notes
        -----
        In training mode every pass moves the codebooks.
        """
        done = self._run(self._checked(x))
        out = done.given * done.scale.unsqueeze(2)
        if not return_features:
            return out
        shape = done.latents.shape[:2]
        return {
            "features": done.latents.flatten(1, 2),
            "cls_token": None,
            "codes": done.quantized.codes.unflatten(0, shape),
            "quantized": done.quantized.vectors.unflatten(0, shape),
            "reconstruction": out,
        }

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Compute the loss of a batch; in training mode, move the codebooks.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            Signal in microvolts, shape (batch, n_chans, n_times); or a sequence that starts with it; or a mapping with
            ``"x"``. Channel names in it are not needed.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``, the sum of ``"l1_loss"`` (mean absolute error in the unit inside) and ``"commitment_loss"``;
            and, without gradient, ``"prd"`` (percent root mean square difference, mean over channels),
            ``"codebook_perplexity"`` and ``"codebook_used"`` (means over the codebooks, in this batch), and
            ``"codebook_initialized"``.

        Raises
        ------
        ValueError
            If the batch does not fit the model.
        """
        done = self._run(self._checked(batch_signal(batch)[0]))
        l1 = F.l1_loss(done.given.float(), done.wanted.float())
        counts = [
            torch.bincount(codes[codes >= 0], minlength=self.n_codes)
            for codes in done.quantized.codes.flatten(0, -2).unbind(dim=-1)
        ]
        wanted = done.wanted.detach().float()
        error = (done.given.detach().float() - wanted).square().sum(dim=2)
        return {
            "loss": l1 + done.quantized.loss,
            "l1_loss": l1,
            "commitment_loss": done.quantized.loss,
            "prd": 100.0 * (error / wanted.square().sum(dim=2).clamp_min(1e-6)).sqrt().mean(),
            "codebook_perplexity": torch.stack([perplexity(each) for each in counts]).mean(),
            "codebook_used": torch.stack([(each > 0).float().mean() for each in counts]).mean(),
            "codebook_initialized": self.quantizer.initialized.float(),
        }

    def codebook_usage(self, codes: Tensor | None = None) -> list[dict[str, float]]:
        """Summarise how much of every codebook is used.

        Parameters
        ----------
        codes : Tensor of int | None
            Codes of a data set; ``None``: those of training since the last ``model.quantizer.reset_usage()``.

        Returns
        -------
        usage : list of dict of str to float
            Per codebook ``"n_codes"``, ``"n_used"``, ``"fraction"`` and ``"perplexity"``.
        """
        return self.quantizer.usage(codes)

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: a codec has no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("BrainCodec has no classification head; build a BrainCodecForSeizure instead.")

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ratios: Sequence[int] | None = None,
        sfreq: float = 512,
        **options: Any,
    ) -> Self:
        """Build the model from weights of the authors' code.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Under the authors' names: ``encoder.model.*`` and ``decoder.model.*``, with or without ``model.`` and
            ``module.`` before, and the codebooks as vector-quantize-pytorch names them. Sizes are read off the shapes.
        ratios : sequence of int | None
            Strides of the decoder, in order. ``None``: half the taps of the convolutions that have one.
        sfreq : float
            Sampling rate in Hz.
        **options : Any
            Further arguments of the class, e.g. ``ch_names``; those that change sizes or add layers are refused.

        Returns
        -------
        model : BrainCodec
            In training mode, as a fresh one.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite; the message names the first few.
        TypeError
            If ``state_dict`` does not map names to tensors.

        Notes
        -----
        Discriminators and losses are left out, and the log says so. Without codebooks in ``state_dict``, the model has
        fresh ones, and the log says that too.
        """
        return build_official(cls, state_dict, ratios=ratios, sfreq=sfreq, **options)
