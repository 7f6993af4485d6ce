"""DeepSIF: the published network for source imaging, of one head and its electrodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.fixed_head import FixedHeadMixin, canonical_names
from mne_labram.models.inputs import SignalMixin, contract_fields
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.nn.recurrent import LongShortTermMemory
from mne_labram.nn.state import load_strict
from mne_labram.signal.contract import SignalContract

__all__ = ["DeepSIF"]

#: Hz of the published network.
PUBLISHED_SFREQ = 500.0
# Where the authors have their LSTM, and where ours is.
_THEIR_LSTM, _OUR_LSTM = "temporal.rnns.0.", "temporal."


class SpatialBlock(nn.Module):
    """What electrodes show at one moment, as a hidden layer.

    Parameters
    ----------
    n_chans : int
        Channels.
    hidden_dim : int
        Width of the output.
    activation : type of nn.Module
        Class of the activations.

    Notes
    -----
    Two residual perceptrons and a layer (bfinl/DeepSIF, network.py, MLPSpatialFilter), by the authors' names.
    """

    def __init__(self, n_chans: int, hidden_dim: int, activation: type[nn.Module] = nn.ELU) -> None:
        super().__init__()
        self.fc11, self.fc12 = nn.Linear(n_chans, n_chans), nn.Linear(n_chans, n_chans)
        self.fc21, self.fc22 = nn.Linear(n_chans, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.fc23 = nn.Linear(n_chans, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map moments.

        Parameters
        ----------
        x : Tensor, shape (batch, n_times, n_chans)
            Signal, prepared.

        Returns
        -------
        h : Tensor, shape (batch, n_times, hidden_dim)
            Hidden layer.
        """
        f = self.activation
        x = f(self.fc12(f(self.fc11(x))) + x)
        x = f(self.fc22(f(self.fc21(x))) + self.fc23(x))
        return f(self.value(x))


class DeepSIF(FixedHeadMixin, SignalMixin, EEGModuleMixin, nn.Module):
    r"""DeepSIF from Sun et al. (2022): a perceptron over electrodes, and an LSTM over time whose output is the sources.

    :bdg-info:`Recurrent`

    The published alternative to :class:`mne_labram.BrainForge`, as a baseline. Electrodes, sources and everything else
    about a head are in the weights: a network is for the head that it was trained on, and there are no weights for
    others.

    Parameters
    ----------
    n_outputs : None
        Not used; the outputs are the sources.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window; any, 500 as published.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz that the weights are for; ``None``: 500, as published.
    ch_names : list of str | None
        Channels, in the order of the input; of any names, since only their order counts.
    n_sources : int
        Sources; 994 regions as published.
    hidden_dim : int
        Width of what the perceptron gives to the LSTM.
    lstm_dim : int | None
        Width of the LSTM, from which a linear layer then reads the sources. ``None``, as published: its width is the
        number of sources and its output is the sources, with 36 million weights for 64 electrodes and 1284 sources.
    num_layers : int
        Layers of the LSTM.
    drop_prob : float
        Dropout between layers of the LSTM, and before it; none as published.
    activation : type of nn.Module
        Class of the activations.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from 0.5 to 45 Hz.

    Raises
    ------
    ValueError
        If the channels are not known, or the names do not fit ``n_chans``.

    Notes
    -----
    Network, preparation of the signal and loss are those of the authors' files (bfinl/DeepSIF, network.py, loaders.py,
    main.py; Sun, Sohrabpour, Worrell & He 2022, PNAS 119:e2201128119). Each window loses its mean over time in every
    channel and its mean over channels, and is divided by its largest absolute value. Ours differs in this:

    - The published sources have no scale, since the window lost its own. Here they get the scale with which they
      explain the window best, :math:`\langle G\hat{j}, x\rangle / \langle G\hat{j}, G\hat{j}\rangle`, where a leadfield
      was given (:meth:`set_leadfield`); then they are in nAm. Without one **they are in arbitrary units**.
    - Targets are divided by their largest absolute value; the published code divides by the largest value, which for
      mostly negative sources is a small number, or turns their sign.
    - Windows without any source are trained on too, and have sources of zero.
    - The published loss is a sum over the batch, ours is its mean over windows.

    The LSTM goes forwards: what it says of a moment, it says without what comes later.
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
        n_sources: int = 994,
        hidden_dim: int = 500,
        lstm_dim: int | None = None,
        num_layers: int = 3,
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.ELU,
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
        self.ch_names = canonical_names(ch_names, chs_info, "DeepSIF")
        if n_chans is not None and n_chans != len(self.ch_names):
            raise ValueError(f"DeepSIF got {len(self.ch_names)} channel names for n_chans={n_chans} channels.")
        if self._n_chans is None:
            self._n_chans = len(self.ch_names)
        sizes = {"n_sources": n_sources, "hidden_dim": hidden_dim, "lstm_dim": lstm_dim, "num_layers": num_layers}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self._contract_fields = contract_fields(contract)
        self.n_sources, width = n_sources, n_sources if lstm_dim is None else lstm_dim
        self.spatial = SpatialBlock(len(self.ch_names), hidden_dim, activation)
        self.drop = nn.Dropout(drop_prob)
        self.temporal = LongShortTermMemory(hidden_dim, width, num_layers, drop_prob)
        # Braindecode finds the end of a network by this name.
        self.final_layer = nn.Identity() if lstm_dim is None else nn.Linear(width, n_sources)
        #: µV per nAm; zeros where it is not known.
        self.register_buffer("leadfield", torch.zeros(len(self.ch_names), n_sources))
        recorded = {} if contract is None else {"contract": dict(self._contract_fields)}
        self._record(ch_names=list(self.ch_names), **recorded)

    @property
    def contract(self) -> SignalContract:
        """What the model may be fed: the rate that it was trained on."""
        return SignalContract(
            **{
                "name": "DeepSIF",
                "l_freq": 0.5,
                "h_freq": 45.0,
                "reference": "average",
                **self._contract_fields,
                "sfreq": PUBLISHED_SFREQ if self._sfreq is None else float(self._sfreq),
                "scale": 1.0,
                "patch_samples": 1,
                "max_patches": 1000,
                "vocabulary": None,
                "montages": ("referential",),
            }
        )

    def forward(
        self, x: Tensor, return_features: bool = False, *, visible: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Estimate dipole moments.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts, in any reference; finite.
        return_features : bool
            Return what the perceptron gives to the LSTM instead.
        visible : Tensor, shape (batch, n_chans) | None
            1 where a channel is to be believed; ``None``: all. The others are taken for zero, which the published
            network never saw.

        Returns
        -------
        sources : Tensor, shape (batch, n_sources, n_times)
            Dipole moments along the normals in nAm; in arbitrary units if no leadfield was given.
        features : dict
            If ``return_features``: ``"features"``, shape (batch, n_times, hidden_dim), and ``"cls_token"``, their mean
            over time.

        Raises
        ------
        ValueError
            If the shape is not that of the channels, or values are not finite.
        """
        x, visible = self._prepared(x, visible)
        hidden = self.spatial(_scaled(x).transpose(1, 2))
        if return_features:
            return {"features": hidden, "cls_token": hidden.mean(dim=1)}
        sources = self._sources(hidden)
        return self._scale(sources, x, visible)[:, None, None] * sources

    @torch.no_grad()
    def embed(self, x: Tensor, pooling: str = "mean") -> Tensor:
        """Describe windows by what the perceptron gives to the LSTM.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts.
        pooling : {"mean", "tokens"}
            Average over time, or not.

        Returns
        -------
        embedding : Tensor, shape (batch, hidden_dim) or (batch, n_times, hidden_dim)
            Hidden layer.

        Raises
        ------
        ValueError
            If ``pooling`` is neither, or the input does not fit.
        """
        if pooling not in ("mean", "tokens"):
            raise ValueError(f"pooling must be 'mean' or 'tokens', got {pooling!r}.")
        out = self(x, return_features=True)
        return out["cls_token" if pooling == "mean" else "features"]

    def _sources(self, hidden: Tensor) -> Tensor:
        """Run the LSTM: (batch, n_sources, n_times), whose peaks are about 1."""
        return self.final_layer(self.temporal(self.drop(hidden))).transpose(1, 2)

    def _prepared(self, x: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        """Check a signal, and take the means over time and over visible channels from it."""
        x, visible = self._whole_window(x, visible, len(self.ch_names), self.leadfield.dtype)
        x = (x - x.mean(dim=2, keepdim=True)) * visible.unsqueeze(2)
        mean = x.sum(dim=1, keepdim=True) / visible.sum(dim=1).clamp_min(1.0)[:, None, None]
        return (x - mean) * visible.unsqueeze(2), visible

    def training_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the loss of simulated windows.

        Parameters
        ----------
        batch : mapping
            ``"x"``, µV, shape (batch, n_chans, n_times); ``"sources"``, in any unit, shape (batch, n_sources, n_times);
            and perhaps ``"visible"``, see :meth:`forward`. Which sources are active, and the covariance of the noise,
            the network does not ask for.

        Returns
        -------
        losses : dict of str to Tensor
            ``"loss"``, the sum of squared errors of sources whose largest value is 1, mean over windows; and without
            gradient ``"error"``, the same over the sum of squared sources, of all windows together.

        Raises
        ------
        ValueError
            If sources are not given, or do not fit.
        """
        if not isinstance(batch, Mapping) or "sources" not in batch:
            raise ValueError(
                "DeepSIF is trained on windows whose sources are known; give a mapping with 'x' and 'sources'."
            )
        x, _ = self._prepared(batch["x"], batch.get("visible"))
        wanted = batch["sources"].to(x)
        if wanted.shape != (len(x), self.n_sources, x.shape[2]):
            raise ValueError(
                f"Sources must have the shape {(len(x), self.n_sources, x.shape[2])}, got {tuple(wanted.shape)}."
            )
        wanted = _scaled(wanted)
        found = self._sources(self.spatial(_scaled(x).transpose(1, 2)))
        loss = (found - wanted).square().sum(dim=(1, 2))
        error = loss.detach().sum() / wanted.square().sum().clamp_min(1e-12)
        return {"loss": loss.mean(), "error": error}

    def reset_head(self, n_outputs: int) -> None:
        """Refuse: sources are no classes.

        Parameters
        ----------
        n_outputs : int
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("DeepSIF has no classification head; train another one for other sources.")

    @classmethod
    def from_official(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        leadfield: np.ndarray | Tensor | None = None,
        sfreq: float = PUBLISHED_SFREQ,
        **options: Any,
    ) -> Self:
        """Build the model from the authors' weights.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Of their ``TemporalInverseNet``: ``spatial.fc11.weight``, ``temporal.rnns.0.weight_ih_l0``, ... Sizes are
            read off the shapes.
        ch_names : sequence of str
            Channels of the head that it was trained on, in their order.
        leadfield : array-like, shape (n_chans, n_sources) | None
            Of that head, see :meth:`set_leadfield`.
        sfreq : float
            Sampling rate in Hz.
        **options : Any
            Further arguments of the class; ``activation`` is not in the weights.

        Returns
        -------
        model : DeepSIF
            In training mode.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of a wrong shape or not finite.
        TypeError
            If ``state_dict`` is no mapping of names to tensors.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must map names to tensors, got {type(state_dict).__name__}.")
        # DataParallel puts a word before all names.
        state = {str(name).removeprefix("module."): value for name, value in state_dict.items()}
        first, recurrent = state.get("spatial.fc21.weight"), state.get(f"{_THEIR_LSTM}weight_hh_l0")
        if not all(isinstance(each, Tensor) and each.ndim == 2 for each in (first, recurrent)):
            raise ValueError(
                "These are no weights of DeepSIF: there is no 'spatial.fc21.weight' or no "
                f"'{_THEIR_LSTM}weight_hh_l0' of two dimensions."
            )
        layers = [name for name in state if re.fullmatch(re.escape(_THEIR_LSTM) + r"weight_hh_l\d+", name)]
        model = cls(
            ch_names=list(ch_names),
            sfreq=sfreq,
            n_sources=recurrent.shape[1],
            hidden_dim=first.shape[0],
            num_layers=len(layers),
            **options,
        )
        renamed = {
            _OUR_LSTM + name.removeprefix(_THEIR_LSTM) if name.startswith(_THEIR_LSTM) else name: value
            for name, value in state.items()
        }
        load_strict(model, {"leadfield": model.leadfield, **renamed}, source="The official state dict")
        return model if leadfield is None else model.set_leadfield(leadfield)


def _scaled(x: Tensor) -> Tensor:
    """Divide windows by their largest absolute value; what is zero stays zero."""
    return x / x.abs().amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
