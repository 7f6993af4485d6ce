"""EEGFoundation's tokenizer: one code per sample and channel, for its level of amplitude."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, Self

import torch
from braindecode.models.base import EEGModuleMixin
from mne.utils import logger, verbose
from torch import Tensor, nn

from mne_labram.models.eegfoundation.levels import AMPLITUDES, N_CODES, N_LEVELS, AmplitudeQuantizer
from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.nn.modules import share_parameters
from mne_labram.signal.contract import LABRAM_CONTRACT, SignalContract
from mne_labram.signal.interpret import interpret_labels

__all__ = ["CONTRACT", "AmplitudeCodes", "AmplitudeTokenizer", "round_trip_prd"]

#: The published preparation (EEGFoundation, preprocessing_TUEG.py: 0.3-75 Hz, notch, 200 Hz), in microvolts; 2000
#: samples are the longest window (RoFormerConfig: max_position_embeddings).
CONTRACT = replace(
    LABRAM_CONTRACT,
    name="EEGFoundation",
    l_freq=0.3,
    scale=1.0,
    patch_samples=1,
    max_patches=1_000_000,
    vocabulary=None,
    montages=("referential", "bipolar"),
)


class AmplitudeCodes(NamedTuple):
    """A signal as codes.

    Parameters
    ----------
    codes : Tensor of int64, shape (batch, n_chans, n_times)
        One code per sample.
    scale, offset : Tensor, shape (batch, n_chans)
        Width and lower end of the range of every channel in microvolts.
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor


class AmplitudeTokenizer(SignalMixin, EEGModuleMixin, nn.Module):
    r"""Amplitudes as codes, from EEGFoundation [eegfoundation]_.

    :bdg-success:`Tokenizer`

    Every sample of every channel is given one of 2000 levels; six further codes are reserved (``[MASK]`` 2001,
    ``[PAD]`` 2002, ``[CLS]`` 2003, ``[SEP]`` 2004, ``[UNK]`` 2005; 2000 is never used), so that the vocabulary has
    2006. There is nothing to train.

    Parameters
    ----------
    n_outputs : None
        Not used.
    n_chans : int | None
        Number of channels; only checked against the names. The tokenizer takes any number.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The tokenizer takes any number, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; ``None``: the contract's, which is 200 by default.
    ch_names : list of str | None
        Names of the channels, which the tokenizer does not need: they are kept for those who do.
    amplitude : {"minmax", "robust", "mulaw", "absolute"}
        What the levels are spread over. ``"minmax"``: from the smallest to the largest value of each channel of a
        window, as published; one artefact takes the levels away from everything else. ``"robust"`` (ours): 1.5 times
        the range of the percentiles 0.5 to 99.5; what lies beyond is clipped. ``"absolute"`` (ours): from ``-limit``
        to ``limit``, so that a code means the same amplitude everywhere. ``"mulaw"`` (ours): the same with levels
        that are denser near zero (µ-law, ITU-T G.711), 0.01 µV apart at zero for a limit of 500 µV, and 2.8 µV at
        the limit.
    limit : float
        In microvolts, for ``"mulaw"`` and ``"absolute"``; what lies beyond is clipped.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the published preparation. Its rate is that of the model if
        ``sfreq`` is None.

    Raises
    ------
    ValueError
        If ``amplitude`` is none of these, ``limit`` is not positive, or two arguments contradict one another.

    Notes
    -----
    The published code differs in three places: it gives a flat channel the index -2147483648, which is no code; it
    does not keep the range, so that there is no way back; and its formula is spelled with and without a small number
    in the denominator, which changes no code but that of a flat channel (here 0).

    References
    ----------
    .. [eegfoundation] EEGFoundation: A foundation model for tokenized spatial-temporal representation learning of
       electroencephalography signal data. https://github.com/DELTA-TJ-submission/EEGFoundation

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.eegfoundation import AmplitudeTokenizer
    >>> tokenizer = AmplitudeTokenizer()
    >>> x = 20 * torch.randn(1, 3, 800)
    >>> codes, scale, offset = tokenizer.codes(x)
    >>> codes.shape, bool((tokenizer.decode(codes, scale=scale, offset=offset) - x).abs().max() < 0.1)
    (torch.Size([1, 3, 800]), True)
    """

    ch_names: list[str]

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        amplitude: str = "minmax",
        limit: float = 500.0,
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
        self.quantizer = AmplitudeQuantizer(amplitude, limit=limit)
        if ch_names is None and chs_info is not None:
            ch_names = [str(ch["ch_name"]) for ch in chs_info]
        if isinstance(ch_names, str):
            raise TypeError("ch_names must be a sequence of channel names, got one string.")
        self.ch_names = [] if ch_names is None else _canonical(ch_names)
        if self.ch_names and n_chans not in (None, len(self.ch_names)):
            raise ValueError(f"{type(self).__name__} got {len(self.ch_names)} channel names for n_chans={n_chans}.")
        if self.ch_names and self._n_chans is None:
            self._n_chans = len(self.ch_names)
        given = {"sfreq": contract.sfreq} if isinstance(contract, SignalContract) else dict(contract or {})
        self._rate = float(given.get("sfreq", CONTRACT.sfreq) if self._sfreq is None else self._sfreq)
        self._contract_fields = contract_fields(contract)
        recorded: dict[str, Any] = {"ch_names": list(self.ch_names) or None}
        if contract is not None:
            recorded["contract"] = {**self._contract_fields, "sfreq": self._rate}
        self._record(**recorded)

    @property
    def n_codes(self) -> int:
        """Size of the vocabulary, special codes included."""
        return N_CODES

    @property
    def n_levels(self) -> int:
        """Codes that are amplitudes."""
        return N_LEVELS

    @property
    def amplitude(self) -> str:
        """What the levels are spread over."""
        return self.quantizer.amplitude

    @property
    def contract(self) -> SignalContract:
        """The signal this tokenizer may be fed: the published preparation, changed by the ``contract`` argument."""
        return replace(CONTRACT, **{**self._contract_fields, "sfreq": self._rate})

    def bind_channels(self, ch_names: Iterable[str], positions: Any = None) -> Self:
        """Return this tokenizer for other channels.

        Parameters
        ----------
        ch_names : iterable of str
            Channel names, in the order of the input.
        positions : array-like | None
            Not used: codes do not depend on where a channel is.

        Returns
        -------
        tokenizer : AmplitudeTokenizer
            The same, with other names.
        """
        new = share_parameters(self)
        new.ch_names = _canonical(ch_names)
        new._n_chans, new._chs_info = len(new.ch_names), None
        new._record(ch_names=list(new.ch_names), n_chans=len(new.ch_names), chs_info=None)
        return new

    def _checked(self, x: Tensor) -> Tensor:
        """Check windows; NaN is refused on every device, since it would become an amplitude."""
        if x.ndim != 3 or not x.shape[1] or not x.shape[2]:
            raise ValueError(f"Input must have the shape (batch, n_chans, n_times), got {tuple(x.shape)}.")
        if self.ch_names and x.shape[1] != len(self.ch_names):
            raise ValueError(
                f"Input has {x.shape[1]} channels, but {type(self).__name__} is bound to {len(self.ch_names)}; "
                "use bind_channels for another montage."
            )
        self._input_was_checked = False
        self._look_at(x)
        # Half formats cannot tell 1999 from 2000, which is no level.
        return x if x.dtype == torch.float64 else x.float()

    def codes(self, x: Tensor) -> AmplitudeCodes:
        """Turn a signal into codes and ranges: all that :meth:`decode` needs.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        codes : AmplitudeCodes
            ``tokenizer.decode(codes.codes, scale=codes.scale, offset=codes.offset)`` gives the signal back.

        Raises
        ------
        ValueError
            If the shape is not that of windows, or values are not finite.
        """
        x = self._checked(x)
        scale, offset = self.quantizer.ranges(x)
        return AmplitudeCodes(self.quantizer.quantize(x, scale, offset), scale, offset)

    def encode(self, x: Tensor) -> Tensor:
        """Turn a signal into codes.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_chans, n_times)
            0 to 1999. A flat channel has one code.

        Raises
        ------
        ValueError
            As :meth:`codes`.
        """
        return self.codes(x).codes

    def decode(
        self, codes: Tensor, n_times: int | None = None, *, scale: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Turn codes into a signal.

        Parameters
        ----------
        codes : Tensor of int, shape (batch, n_chans, n_times)
            0 to 1999.
        n_times : int | None
            Samples to return, the first ones; ``None``: all.
        scale, offset : Tensor, shape (batch, n_chans) | None
            Ranges in microvolts, from :meth:`codes`; not needed for ``"mulaw"`` and ``"absolute"``.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.

        Raises
        ------
        ValueError
            If shapes do not fit, a code is no amplitude, or ranges are missing or make no sense.
        TypeError
            If the codes are not integers.
        """
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise TypeError(f"Codes must be whole numbers, got {codes.dtype}.")
        if codes.ndim != 3:
            raise ValueError(f"Codes must have the shape (batch, n_chans, n_times), got {tuple(codes.shape)}.")
        if n_times is not None and not 1 <= n_times <= codes.shape[2]:
            raise ValueError(f"There are codes of {codes.shape[2]} samples, not n_times={n_times}.")
        codes = codes[:, :, :n_times]
        if not codes.is_meta and codes.numel():
            low, high = (int(end) for end in torch.aminmax(codes))
            if low < 0 or high >= N_LEVELS:
                raise ValueError(
                    f"Codes of amplitudes lie between 0 and {N_LEVELS - 1}, got {low} to {high}; "
                    "special codes and other vocabularies cannot be decoded."
                )
        if scale is None and offset is None and not self.quantizer.relative:
            scale, offset = self.quantizer.ranges(torch.empty(*codes.shape[:2], 1, device=codes.device))
        for name, value in {"scale": scale, "offset": offset}.items():
            if value is None:
                raise ValueError(f"Codes alone do not tell the amplitude; pass the {name} that codes() returned.")
            if value.shape != codes.shape[:2]:
                raise ValueError(f"{name} must have the shape {tuple(codes.shape[:2])}, got {tuple(value.shape)}.")
            if not value.is_meta and not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} must be finite; it is in microvolts.")
        if not scale.is_meta and bool((scale < 0).any()):
            raise ValueError("scale is the width of a range in microvolts and must not be negative.")
        return self.quantizer.decode(codes, scale, offset)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor | None]:
        """Turn a signal into codes and back.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        return_features : bool
            Return codes and ranges too.

        Returns
        -------
        x : Tensor, shape (batch, n_chans, n_times)
            The signal, rounded to the levels.
        features : dict
            If ``return_features``: ``"features"``, the codes; ``"cls_token"``, None; ``"scale"``, ``"offset"`` and
            ``"reconstruction"``.

        Raises
        ------
        ValueError
            As :meth:`codes`.
        """
        codes, scale, offset = self.codes(x)
        out = self.quantizer.decode(codes, scale, offset)
        if not return_features:
            return out
        return {"features": codes, "cls_token": None, "scale": scale, "offset": offset, "reconstruction": out}

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: a tokenizer has no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("AmplitudeTokenizer has no classification head; use EEGFoundationForClassification instead.")


def _canonical(ch_names: Iterable[str]) -> list[str]:
    """Write names as every model does."""
    _, parsed = interpret_labels([str(name) for name in ch_names])
    return [channel.name for channel in parsed]


@verbose
def round_trip_prd(
    x: Tensor, amplitudes: Iterable[str] = AMPLITUDES, *, limit: float = 500.0, verbose: Any = None
) -> dict[str, float]:
    """Measure what is lost on the way to codes and back.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Signal in microvolts.
    amplitudes : iterable of str
        Kinds of levels, as :class:`AmplitudeTokenizer` takes them.
    limit : float
        See :class:`AmplitudeTokenizer`.
    verbose : bool | str | int | None
        See :func:`mne.verbose`; each number is logged.

    Returns
    -------
    prd : dict of str to float
        Percent root mean square difference, ``100 sqrt(sum (x - y)^2 / sum (x - m)^2)`` with ``m`` the mean of the
        channel in the window, so that an offset does not make it look better; mean over channels and windows. A flat
        channel has 0 if it comes back as it was, and is left out otherwise.

    Raises
    ------
    ValueError
        As :meth:`AmplitudeTokenizer.codes`.
    """
    out = {}
    for amplitude in amplitudes:
        given = AmplitudeTokenizer(amplitude=amplitude, limit=limit)(x.double())
        lost = (given - x.double()).square().sum(dim=2)
        there = (x.double() - x.double().mean(dim=2, keepdim=True)).square().sum(dim=2)
        kept = (there > 0) | (lost == 0)
        prd = 100.0 * (lost / torch.where(there > 0, there, torch.ones_like(there))).sqrt()
        out[amplitude] = float(prd[kept].mean())
        logger.info(f"Round trip through {N_LEVELS} levels, {amplitude}: PRD {out[amplitude]:.3f} %.")
    return out
