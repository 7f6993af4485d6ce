"""EEGFoundation's masked modelling: predict the amplitude codes of hidden samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.eegfoundation.base import EEGFoundationMixin
from mne_labram.models.eegfoundation.encoder import AmplitudeHead
from mne_labram.models.eegfoundation.levels import N_CODES, N_LEVELS
from mne_labram.models.eegfoundation.masking import MASKINGS, hide_codes, token_mask
from mne_labram.models.eegfoundation.official import build_masked
from mne_labram.models.labram.base import SFREQ
from mne_labram.models.labram.inputs import batch_signal, with_arrays
from mne_labram.nn.initialization import initialize_weights
from mne_labram.nn.spectra import SpectralTarget

__all__ = ["EEGFoundationForMaskedModeling"]

# Samples in the segments whose spectrum is a second target: a second, as in LaBraM.
_SECOND = 200
# Logits that are computed in one step of training: with 2006 codes, 4096 take 33 MB. More samples than that may be
# hidden; which of them count is drawn.
_MOST_TARGETS = 4096


class EEGFoundationForMaskedModeling(EEGFoundationMixin, EEGModuleMixin, nn.Module):
    r"""RoFormer on amplitude codes, from EEGFoundation [eegfoundation]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    Every sample is a code (:class:`AmplitudeTokenizer`), every channel a sentence of its own, and a RoFormer
    [roformer]_ guesses the codes of hidden samples. With the default options it is the published model, transformers'
    ``RoFormerForMaskedLM`` without the tie between first and last matrix; no weights were ever published. A token per
    sample costs 2000 tokens per channel for ten seconds: ``input="patches"`` (ours) has one for every ``patch_size``.

    Parameters
    ----------
    n_outputs : None
        Not used; the outputs are 2006 per sample.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole tokens up to ``max_patches``, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are.
    size : {"tiny", "small", "student", "base"}
        Configuration: 128 x 4 x 4 (width, blocks, heads) and 256 x 6 x 8 are ours; 512 x 12 x 8 and 768 x 12 x 12 are
        published.
    embed_dim, num_layers, num_heads, hidden_dim : int | None
        Replace a number of the configuration; ``hidden_dim`` is the width inside feed-forward layers.
    input : {"samples", "patches"}
        What a token is: one sample, as published, or ``patch_size`` of them.
    patch_size : int | None
        Samples in a token; ``None``: 1 or 50.
    max_patches : int | None
        Longest window in tokens; ``None``: 2000 samples, or 3200 with ``input="patches"``.
    amplitude, limit
        How samples become codes; see :class:`AmplitudeTokenizer`.
    mask_ratio : float
        Share of hidden tokens.
    masking : {"random", "span"}
        Hide single tokens, as published, or stretches of ``span`` seconds (ours): a single hidden sample is told by
        its neighbours.
    span : float
        Length of a hidden stretch in seconds.
    smoothing : float
        Standard deviation, in levels, of the distribution that the loss wants for a hidden sample. 0 wants its code
        and nothing else, as published: being wrong by one level then costs as much as by a thousand.
    spectral_weight : float
        Weight of a second loss (ours): the log amplitude of every second from 1 to 45 Hz, hidden or not, is read off
        the mean of its tokens by a linear map. 0 has no such map.
    fusion_layers : int
        Layers of attention between channels behind the RoFormer (ours); 0: every channel is by itself, as published.
    transform : bool
        See :class:`mne_labram.models.eegfoundation.encoder.AmplitudeHead`.
    spatial : {"coordinates", "names"}
        How ``fusion_layers`` know channels: by where they are, both ends of a bipolar channel, or by their row in
        LaBraM's table.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights (0.1 each as published, in pre-training), and of
        whole branches (in the last block).
    activation : type of nn.Module
        Class of the activation.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the published preparation (0.3-75 Hz, notch, 200 Hz).

    Raises
    ------
    ValueError
        If no channel names are known, the window is not made of whole tokens, the sampling rate is not 200 Hz, or an
        option has a value that is not listed.

    References
    ----------
    .. [eegfoundation] EEGFoundation: A foundation model for tokenized spatial-temporal representation learning of
       electroencephalography signal data. https://github.com/DELTA-TJ-submission/EEGFoundation
    .. [roformer] Su, J., Lu, Y., Pan, S., Murtadha, A., Wen, B., & Liu, Y. (2021). RoFormer: Enhanced Transformer with
       Rotary Position Embedding. arXiv:2104.09864.

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.eegfoundation import EEGFoundationForMaskedModeling
    >>> model = EEGFoundationForMaskedModeling(ch_names=["Fp1", "Cz"], size="tiny", input="patches")
    >>> x = 20 * torch.randn(2, 2, 800)
    >>> sorted(model.training_step(x)), model.embed(x).shape
    (['accuracy', 'level_error', 'loss', 'masked_loss'], torch.Size([2, 128]))
    """

    _build_official = staticmethod(build_masked)

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        size: str = "base",
        embed_dim: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        hidden_dim: int | None = None,
        input: str = "samples",  # noqa: A002
        patch_size: int | None = None,
        max_patches: int | None = None,
        amplitude: str = "minmax",
        limit: float = 500.0,
        mask_ratio: float = 0.15,
        masking: str = "random",
        span: float = 0.5,
        smoothing: float = 0.0,
        spectral_weight: float = 0.0,
        fusion_layers: int = 0,
        transform: bool = True,
        spatial: str = "coordinates",
        ch_positions: list[list[float]] | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
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
        if not 0.0 < mask_ratio < 1.0:
            raise ValueError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}.")
        if masking not in MASKINGS:
            raise ValueError(f"masking must be one of {', '.join(map(repr, MASKINGS))}, got {masking!r}.")
        for name, value in {"smoothing": smoothing, "spectral_weight": spectral_weight}.items():
            if not value >= 0.0:
                raise ValueError(f"{name} must not be negative, got {value}.")
        if not span > 0.0:
            raise ValueError(f"span must be positive, got {span}.")
        self.mask_ratio, self.masking, self.span = float(mask_ratio), masking, float(span)
        self.smoothing, self.spectral_weight = float(smoothing), float(spectral_weight)
        self._build_body(
            input=input,
            patch_size=patch_size,
            max_patches=max_patches,
            amplitude=amplitude,
            limit=limit,
            size=size,
            numbers={
                "embed_dim": embed_dim,
                "num_layers": num_layers,
                "num_heads": num_heads,
                "hidden_dim": hidden_dim,
            },
            fusion_layers=fusion_layers,
            activation=activation,
            signal={
                "n_chans": n_chans,
                "chs_info": chs_info,
                "ch_names": ch_names,
                "ch_positions": ch_positions,
                "spatial": spatial,
                "contract": contract,
            },
            dropout={"drop_prob": drop_prob, "attn_drop_prob": attn_drop_prob, "drop_path_prob": drop_path_prob},
        )
        if self.patch_size > 1 and not transform:
            raise ValueError("A token of several samples needs transform=True.")
        self.spectral_target = self.spectral_head = None
        if spectral_weight > 0.0:
            if _SECOND % self.patch_size:
                raise ValueError(
                    f"spectral_weight needs a whole number of tokens per second, and {_SECOND} samples are no multiple "
                    f"of patch_size={self.patch_size}."
                )
            self.spectral_target = SpectralTarget("log_amplitude", _SECOND, sfreq=SFREQ)
            self.spectral_head = nn.Linear(self.embed_dim, self.spectral_target.parts["log_amplitude"])
            initialize_weights(self.spectral_head)
        self.final_layer = AmplitudeHead(self.embed_dim, self.patch_size, transform=transform, activation=activation)

    @property
    def n_codes(self) -> int:
        """Size of the vocabulary, special codes included."""
        return N_CODES

    def _checked_mask(self, mask: Tensor, codes: Tensor, name: str = "A mask") -> Tensor:
        """Refuse a choice of tokens that does not fit."""
        if mask.dtype != torch.bool or mask.shape != codes.shape[:3]:
            raise ValueError(
                f"{name} must be boolean, of the shape {tuple(codes.shape[:3])}, got {tuple(mask.shape)} of "
                f"{mask.dtype}."
            )
        return mask.to(codes.device)

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor | None]:
        """Predict the codes of samples.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; 1 to ``max_patches`` whole tokens.
        return_features : bool
            Return tokens instead of logits.
        mask : Tensor of bool, shape (batch, n_chans, n_tokens) | None
            True where a token is hidden; ``None`` hides none.
        positions : Tensor of bool, shape (batch, n_chans, n_tokens) | None
            True where a token's logits are wanted, often the ``mask``; no others are computed. ``None`` wants all.

        Returns
        -------
        logits : Tensor, shape (batch, n_chans, n_times, 2006) or (n_positions, patch_size, 2006)
            No softmax is applied. Those of all tokens are large: 19 channels and 8 s take 244 MB. With ``positions``
            they are those of the chosen tokens, in the order of ``positions.nonzero()``.
        features : dict
            If ``return_features``: ``"features"``, tokens in channel-major order, shape
            (batch, n_chans * n_tokens, embed_dim); ``"cls_token"``, None.

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole tokens, ``mask`` or ``positions`` does not fit, or
            values are not finite.
        """
        codes = self._codes(self._checked(x))
        if mask is not None:
            codes = hide_codes(codes, self._checked_mask(mask, codes))
        if positions is not None:
            positions = self._checked_mask(positions, codes, "positions")
        tokens = self.encoder(codes)
        if return_features:
            return {"features": tokens.flatten(1, 2), "cls_token": None}
        if positions is not None:
            return self.final_layer(tokens[positions])
        return self.final_layer(tokens).flatten(2, 3)

    def training_step(
        self, batch: Any, *, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch : Tensor | sequence | mapping
            Signal in microvolts, shape (batch, n_chans, n_times); or a sequence that starts with it; or a mapping with
            ``"x"`` and, if the batch has other channels than the model, ``"ch_names"`` and, where the names do not
            tell where they are, ``"positions"``.
        mask : Tensor of bool, shape (batch, n_chans, n_tokens) | None
            True where a token is hidden; ``None`` draws one.
        generator : torch.Generator | None
            Source of the mask, on the CPU; ``None`` is torch's global one.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"`` (the sum), ``"masked_loss"`` (cross-entropy, mean over at most 4096 hidden samples),
            ``"spectrum_loss"`` (if ``spectral_weight`` is positive, and with that weight; a mean squared error) and,
            without gradient, ``"accuracy"`` (share of the codes that are exactly right) and ``"level_error"`` (mean
            distance of the likeliest level from the right one).

        Raises
        ------
        ValueError
            If the batch or the mask does not fit the model, or nothing is hidden.
        """
        x, ch_names, positions = batch_signal(batch)
        model = self if ch_names is None else self.bind_channels(ch_names, positions=positions)
        x = model._checked(x)
        codes = model._codes(x)
        if mask is None:
            mask = token_mask(
                self.masking,
                *codes.shape[:3],
                self.mask_ratio,
                span=max(1, round(self.span * SFREQ / self.patch_size)),
                shared=self.encoder.fusion is not None,
                generator=generator,
            ).to(x.device)
        else:
            mask = model._checked_mask(mask, codes)
        if not bool(mask.any()):
            raise ValueError("The mask hides nothing, which leaves nothing to predict.")
        tokens = model.encoder(hide_codes(codes, mask, generator=generator))
        samples, wanted = model._targets(tokens[mask], codes[mask], generator)
        logits = model.final_layer.logits(samples).float()
        loss = {"masked_loss": self._code_loss(logits, wanted)}
        if self.spectral_head is not None:
            loss["spectrum_loss"] = model._spectrum_loss(x, tokens)
        guess = logits.detach()[:, :N_LEVELS].argmax(dim=1)
        return {
            "loss": torch.stack(list(loss.values())).sum(),
            **loss,
            "accuracy": (guess == wanted).float().mean(),
            "level_error": (guess - wanted).abs().float().mean(),
        }

    def _targets(self, tokens: Tensor, codes: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Choose hidden samples: what is known of each, shape (n, width), and its code."""
        most = max(1, _MOST_TARGETS // self.patch_size)
        if len(tokens) > most:
            kept = torch.randperm(len(tokens), generator=generator, device="cpu")[:most].to(tokens.device)
            tokens, codes = tokens[kept], codes[kept]
        return self.final_layer.samples(tokens).flatten(0, 1), codes.flatten()

    def _code_loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy with the codes, or with a normal distribution of levels around each."""
        if not self.smoothing:
            return F.cross_entropy(logits, wanted)
        levels = torch.arange(N_LEVELS, device=logits.device)
        distance = (levels - wanted.unsqueeze(1)) / self.smoothing
        target = torch.softmax(-0.5 * distance.square(), dim=1)
        return -(target * torch.log_softmax(logits, dim=1)[:, :N_LEVELS]).sum(dim=1).mean()

    def _spectrum_loss(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Compare what the tokens of every whole second say of its log amplitude with what it is."""
        n_seconds = x.shape[2] // _SECOND
        if not n_seconds:
            return tokens.sum() * 0.0
        seconds = x[:, :, : n_seconds * _SECOND].unflatten(2, (n_seconds, _SECOND))
        if self.training:
            self.spectral_target.update(seconds)
        wanted = self.spectral_target(seconds)["log_amplitude"]
        per_second = _SECOND // self.patch_size
        pooled = tokens[:, :, : n_seconds * per_second].unflatten(2, (n_seconds, per_second)).mean(dim=3)
        return self.spectral_weight * F.mse_loss(self.spectral_head(pooled).float(), wanted)

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: masked modelling has no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "EEGFoundationForMaskedModeling has no classification head; use "
            "EEGFoundationForClassification.from_encoder instead."
        )

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        n_times: int,
        sfreq: float = 200,
        num_heads: int | None = None,
        **options: Any,
    ) -> Self:
        """Build the model from weights of transformers' ``RoFormerForMaskedLM`` or ``RoFormerModel``.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Under transformers' names, with or without ``roformer.``, ``model.`` and ``module.`` before; the head under
            ``cls.predictions`` or ``lm_head``. Sizes are read off the shapes.
        ch_names : sequence of str
            Channels of the signal.
        n_times : int
            Samples in a window.
        sfreq : float
            Sampling rate in Hz.
        num_heads : int | None
            Number of attention heads; ``None``: heads of the width of the table of positions, or of 64.
        **options : Any
            Further arguments of the class, e.g. ``amplitude``.

        Returns
        -------
        model : EEGFoundationForMaskedModeling
            In training mode, as a fresh one.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite, or the vocabulary is not the published one.
        TypeError
            If ``state_dict`` does not map names to tensors.

        Notes
        -----
        The table of positions is left out: it is computed. Without a head in ``state_dict``, the model has a fresh one,
        and the log says so.
        """
        return cls._build_official(
            cls, state_dict, ch_names=list(ch_names), n_times=n_times, sfreq=sfreq, num_heads=num_heads, **options
        )
