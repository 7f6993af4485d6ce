"""What is compared in ``mne-labram benchmark source``: MNE's inverses, and networks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram.benchmark.source import SourceEstimator, SourceMethod
from mne_labram.benchmark.source_windows import ImagingHead
from mne_labram.signal.contract import ContractError
from mne_labram.source.inverse import BrainForgeInverse
from mne_labram.source.judging import at_judged_rate, faded_windows

__all__ = [
    "MinimumNorm",
    "MixedNorm",
    "NetworkEstimator",
    "classical_methods",
    "fitted_methods",
    "network_methods",
]

_V, _NAM = 1e-6, 1e9
# Relative accuracy to which covariances count as the same, of the mean variance of a channel.
_ALIKE = 3


class _OfMNE:
    """A signal as MNE wants it, and operators for noise of the same shape, which are kept."""

    def __init__(self, head: ImagingHead) -> None:
        self.head = head
        names = head.model.ch_names
        with mne.utils.use_log_level("error"):
            picked = mne.pick_channels_forward(head.fwd, names, ordered=True)
            self.info = mne.create_info(names, head.sfreq, "eeg")
            with self.info._unlock():
                for ch, there in zip(self.info["chs"], picked["info"]["chs"], strict=True):
                    ch["loc"], ch["coord_frame"] = there["loc"].copy(), there["coord_frame"]
            self.info = mne.io.RawArray(np.zeros((len(names), 2)), self.info).set_eeg_reference(projection=True).info
        self.fwd = picked
        self.kept: dict[bytes, Any] = {}

    def evoked(self, x: np.ndarray) -> mne.EvokedArray:
        return mne.EvokedArray(x * _V, self.info, nave=1, verbose="ERROR")

    def covariance(self, noise_covariance: np.ndarray) -> tuple[mne.Covariance, float, bytes]:
        """Return it with a mean variance of 1 µV², what the signal is to be multiplied with for that, and a name."""
        if noise_covariance.shape != (len(self.info["ch_names"]),) * 2:
            raise ContractError(
                f"The noise covariance must have {len(self.info['ch_names'])} channels, got {noise_covariance.shape}."
            )
        unit = noise_covariance / (np.trace(noise_covariance) / len(noise_covariance))
        factor = float(np.sqrt(len(noise_covariance) / np.trace(noise_covariance)))
        made = mne.Covariance(unit * _V**2, self.info["ch_names"], [], self.info["projs"], nfree=10_000)
        return made, factor, np.round(unit, _ALIKE).tobytes()


class MinimumNorm(_OfMNE):
    """Minimum norm and its kin, by :mod:`mne.minimum_norm`.

    Parameters
    ----------
    head : ImagingHead
        What is known of the head. Depth is weighted (0.8) where its forward is of free orientation.
    method : {"MNE", "dSPM", "sLORETA", "eLORETA"}
        Which.
    snr_db : float
        Regularisation is one over the ratio of powers, MNE's 1 / SNR².
    """

    def __init__(self, head: ImagingHead, method: str, snr_db: float) -> None:
        super().__init__(head)
        self.method, self.lambda2 = method, 10.0 ** (-snr_db / 10.0)

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray) -> np.ndarray:
        """Estimate sources.

        Parameters
        ----------
        x : ndarray, shape (n_channels, n_times)
            µV, average reference.
        noise_covariance : ndarray, shape (n_channels, n_channels)
            µV².

        Returns
        -------
        sources : ndarray, shape (n_sources, n_times)
            nAm for MNE and eLORETA; without a unit for the others.
        """
        covariance, factor, name = self.covariance(noise_covariance)
        with mne.utils.use_log_level("error"):
            if name not in self.kept:
                fixed = self.fwd["source_ori"] == 1
                depth = {"fixed": True, "depth": None} if fixed else {"loose": 0.0, "depth": 0.8}
                if name not in self.head.operators:
                    made = mne.minimum_norm.make_inverse_operator(self.info, self.fwd, covariance, **depth)
                    # One copy of the cortex for all operators, of which hundreds are kept: it is most of each.
                    made["src"] = self.fwd["src"]
                    self.head.operators[name] = made
                self.kept[name] = mne.minimum_norm.prepare_inverse_operator(
                    self.head.operators[name], 1, self.lambda2, self.method
                )
            found = mne.minimum_norm.apply_inverse(
                self.evoked(factor * x), self.kept[name], self.lambda2, self.method, prepared=True
            )
        return found.data * (_NAM / factor if self.method in ("MNE", "eLORETA") else 1.0)


class MixedNorm(_OfMNE):
    """Few sources, of which each is active throughout: :func:`mne.inverse_sparse.mixed_norm`.

    Parameters
    ----------
    head : ImagingHead
        What is known of the head.
    alpha : float
        Regularisation in percent of what would leave nothing. 30 localised best of 10, 20, 30, 50 and 70 on 72 windows
        of 64 electrodes from other heads (seed 99): 14.9 mm, against 15.6 mm by the 50 of MNE's examples.
    """

    def __init__(self, head: ImagingHead, alpha: float = 30.0) -> None:
        super().__init__(head)
        self.alpha = alpha

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray) -> np.ndarray:
        """Estimate sources.

        Parameters
        ----------
        x, noise_covariance : ndarray
            See :meth:`MinimumNorm.estimate`.

        Returns
        -------
        sources : ndarray, shape (n_sources, n_times)
            nAm; zeros where nothing is found.
        """
        covariance, factor, _ = self.covariance(noise_covariance)
        fixed = self.fwd["source_ori"] == 1
        with mne.utils.use_log_level("error"):
            dipoles = mne.inverse_sparse.mixed_norm(
                self.evoked(factor * x), self.fwd, covariance, alpha=self.alpha,
                **({"loose": 0.0, "depth": None} if fixed else {"loose": 0.0, "depth": 0.8}),
            )  # fmt: skip
        out = np.zeros((self.head.model.n_sources, x.shape[1]))
        first = 0
        there = []
        for all_vertices, vertices in zip(self.head.model.vertices, dipoles.vertices, strict=True):
            there.append(first + np.searchsorted(all_vertices, vertices))
            first += len(all_vertices)
        out[np.concatenate(there).astype(int)] = dipoles.data * (_NAM / factor)
        return out


class NetworkEstimator:
    """A network of ours, bound to the head; or one for this very head.

    Parameters
    ----------
    network : torch.nn.Module
        ``forward(x)`` or ``forward(x, noise_covariance=...)`` in µV and nAm; and ``bind_head``, or ``check_head`` if it
        is for one head only.
    head : ImagingHead
        What is known of the head.
    knows_noise : bool | None
        Whether it is told the noise's covariance; ``None``: if it takes one.

    Raises
    ------
    ContractError
        If the network is for another head.
    """

    def __init__(self, network: Any, head: ImagingHead, *, knows_noise: bool | None = None) -> None:
        model = head.model
        if knows_noise is None:
            knows_noise = "noise_covariance" in inspect.signature(network.forward).parameters
        self.knows_noise = knows_noise
        if hasattr(network, "bind_head"):
            network = network.bind_head(
                model.leadfield, model.positions, model.normals, model.neighbours, model.electrodes, model.ch_names
            )
        else:
            network.check_head(model.leadfield, model.ch_names)
        self.network, self.sfreq = network.eval(), head.sfreq

    def estimate(self, x: np.ndarray, noise_covariance: np.ndarray | None) -> np.ndarray:
        """Estimate sources.

        Parameters
        ----------
        x : ndarray
            See :meth:`MinimumNorm.estimate`.
        noise_covariance : ndarray | None
            See there; ``None``: nobody knows it.

        Returns
        -------
        sources : ndarray, shape (n_sources, n_times)
            nAm. Of a network that judges windows, as :meth:`mne_labram.BrainForgeInverse.apply` finds them: windows of
            a second, at 100 Hz.
        """
        import torch

        known = {}
        if self.knows_noise and noise_covariance is not None:
            known["noise_covariance"] = torch.as_tensor(noise_covariance, dtype=torch.float32)

        def operators(windows: np.ndarray) -> np.ndarray:
            judged = torch.from_numpy(at_judged_rate(windows, self.sfreq).astype(np.float32))
            return self.network.posterior(judged, **known).operator.numpy()

        with torch.inference_mode():
            if not hasattr(self.network, "posterior"):
                return self.network(torch.as_tensor(x[None], dtype=torch.float32), **known)[0].double().numpy()
            pieces = faded_windows(lambda start, stop: x[:, start:stop], operators, x.shape[1], round(self.sfreq))
            return np.concatenate([found for _, found in pieces], axis=1).astype(float)


def classical_methods(*, sparse: bool = True) -> list[SourceMethod]:
    """List MNE's inverses.

    Parameters
    ----------
    sparse : bool
        With MxNE, which takes ten times as long as all others together.

    Returns
    -------
    methods : list of SourceMethod
        eLORETA, sLORETA, dSPM, MNE, MxNE.
    """
    methods = [
        SourceMethod(name, functools.partial(_minimum_norm, name), moments=name in ("MNE", "eLORETA"))
        for name in ("eLORETA", "sLORETA", "dSPM", "MNE")
    ]
    return [*methods, SourceMethod("MxNE", lambda head, snr_db: MixedNorm(head))] if sparse else methods


def _minimum_norm(method: str, head: ImagingHead, snr_db: float) -> SourceEstimator:
    return MinimumNorm(head, method, snr_db)


def network_methods(
    model: str | os.PathLike[str] | Any | Sequence[str | os.PathLike[str] | Any] | None, *, seed: int = 0
) -> list[SourceMethod]:
    """List networks.

    Parameters
    ----------
    model : str | path-like | torch.nn.Module | sequence of these | None
        BrainForge or DeepSIF: a checkpoint, the name of one, or the network; or several. ``None``: only the control.
    seed : int
        Of the control's weights.

    Returns
    -------
    methods : list of SourceMethod
        In the order given, called by their class, and by their file too where two are of one class; and as a control
        BrainForge with weights as they are before training.

    Raises
    ------
    ContractError
        If a model finds no sources.
    """
    import torch

    from mne_labram.models.brainforge import BrainForge

    given = [model] if model is None or isinstance(model, (str, os.PathLike, torch.nn.Module)) else list(model)
    given = [each for each in given if each is not None]
    networks = [_loaded(each) for each in given]
    classes = [type(each).__name__ for each in networks]
    methods = []
    for number, (name, network, source) in enumerate(zip(classes, networks, given, strict=True)):
        if classes.count(name) > 1:
            name = f"{name} {number + 1}" if isinstance(source, torch.nn.Module) else f"{name}, {_called(source)}"
        if any(method.name == name for method in methods):
            name = f"{name} ({number + 1})"
        # Without a leadfield, what one without bind_head finds is in no unit.
        moments, any_head = bool(getattr(network, "has_scale", True)), hasattr(network, "bind_head")
        trained = network if isinstance(network, BrainForge) else None
        make = functools.partial(_network, network)
        methods.append(SourceMethod(name, make, moments, any_head, needs_noise=False, network=trained))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random = BrainForge(ch_names=["Fp1", "Fp2", "C3", "C4", "Cz", "Pz", "O1", "O2"])
    control = SourceMethod("BrainForge, random weights", functools.partial(_network, random), needs_noise=False)
    return [*methods, control]


def _loaded(model: Any) -> Any:
    """Load a model, unless it is one, and refuse what finds no sources."""
    import torch

    label = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        from mne_labram.weights import load_model

        label = repr(os.fspath(model))
        model = load_model(model)
    if not (hasattr(model, "bind_head") or hasattr(model, "check_head")):
        raise ContractError(
            f"{label} holds a {type(model).__name__}, which finds no sources; give a BrainForge or a DeepSIF."
        )
    return model


def _called(path: str | os.PathLike[str]) -> str:
    """Name a checkpoint by its file, or by its folder where that is what every training calls it."""
    path = Path(path)
    return path.parent.name if path.stem in ("final", "best") and path.parent.name else path.stem


def _network(network: Any, head: ImagingHead, snr_db: float) -> SourceEstimator:
    return NetworkEstimator(network, head)


def fitted_methods(
    methods: Sequence[SourceMethod], steps: int, *, seed: int = 0, verbose: bool | str | int | None = "ERROR"
) -> list[SourceMethod]:
    """List the same networks, adjusted to each head before they are used, as a user would for his own.

    Parameters
    ----------
    methods : sequence of SourceMethod
        Of :func:`network_methods`; those that are no BrainForge are left out, and so is the control.
    steps : int
        See :meth:`mne_labram.BrainForgeInverse.fit`.
    seed : int
        Of its windows.
    verbose : bool | str | int | None
        Of the training.

    Returns
    -------
    methods : list of SourceMethod
        Called by the number of steps too.
    """
    return [
        SourceMethod(
            f"{method.name}, fitted in {steps} steps",
            functools.partial(_fitted, {}, method.network, steps, seed, verbose),
            needs_noise=False,
        )
        for method in methods
        if method.network is not None
    ]


def _fitted(
    kept: dict[str, Any], network: Any, steps: int, seed: int, verbose: Any, head: ImagingHead, snr_db: float
) -> SourceEstimator:
    digest = head.model.digest
    if digest not in kept:
        kept[digest] = BrainForgeInverse(head.model, model=network).fit(steps=steps, seed=seed, verbose=verbose).base
    return NetworkEstimator(kept[digest], head)
