"""``BrainForgeInverse``: a network on the user's head, trained for it and applied to recordings."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import mne
import numpy as np
import torch
from mne.io import BaseRaw
from mne.utils import verbose

from mne_labram.models.brainforge import BrainForge
from mne_labram.signal.contract import ContractError
from mne_labram.source.bank_making import default_bank
from mne_labram.source.estimates import source_layout
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.inverse_file import read_inverse, write_inverse
from mne_labram.source.judging import faded_windows
from mne_labram.source.localizable import (
    check_finite,
    eeg_channels,
    head_of_channels,
    lost_directions,
    probe_signal,
)
from mne_labram.source.operators import WindowOperators
from mne_labram.source.simulate import SourceSimulator
from mne_labram.source.simulated_batches import EPOCH, HeadTraining, SimulatedBatches, head_settings
from mne_labram.training.pretrain import pretrain
from mne_labram.weights.pretrained import load_model

__all__ = ["BrainForgeInverse", "fresh_network"]

# Where the sources of fresh weights are until they get a head, and how fast they learn; trained ones are only adjusted.
_CHANNELS = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()
_LR_FRESH, _LR_TRAINED = 2e-3, 5e-4
# Sources of this many bytes are not made at once.
_LARGEST = 4 * 2**30


def fresh_network(seed: int = 0, **options: Any) -> BrainForge:
    """Make a network with weights to begin a training with.

    Parameters
    ----------
    seed : int
        Of the weights.
    **options : object
        Sizes, see :class:`mne_labram.BrainForge`.

    Returns
    -------
    network : BrainForge
        For the 19 electrodes of the 10-20 system, until it is bound to a head; the caller's random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return BrainForge(ch_names=_CHANNELS, **options)


class BrainForgeInverse:
    """Find the sources of recordings by a network that knows the head.

    The network judges, window by window, which sources are active and how large they may be; their moments are the
    conditional mean under that prior, a linear inverse that holds for this window.

    Parameters
    ----------
    fwd : mne.Forward | SourceModel
        The head, see :func:`mne_labram.source.source_model`.
    model : str | Path | BrainForge | None
        Weights that ship, by their name, or a checkpoint; a network, which is copied; ``None``: fresh weights, which
        :meth:`fit` has to train first.
    noise_cov : mne.Covariance | None
        Of the noise in single trials (divided by ``nave`` for averages). ``None``: white noise, of a strength that is
        estimated in each window.
    seed : int
        Of fresh weights.

    Attributes
    ----------
    head : SourceModel
        What was taken from the forward.
    network : BrainForge
        On this head; with the weights of ``base``.
    trained : dict
        What :meth:`fit` did last; empty if it did nothing.

    Raises
    ------
    ContractError
        If the forward cannot be used.
    FileNotFoundError
        If there are no weights of this name.
    TypeError
        If ``fwd`` or ``model`` is of another kind.

    Examples
    --------
    >>> from mne_labram import BrainForgeInverse
    >>> stc = BrainForgeInverse(fwd).fit(steps=300).apply(evoked)  # doctest: +SKIP
    """

    def __init__(
        self,
        fwd: mne.Forward | SourceModel,
        *,
        model: str | os.PathLike[str] | BrainForge | None = "brainforge-tiny",
        noise_cov: mne.Covariance | None = None,
        seed: int = 0,
    ) -> None:
        head = fwd if isinstance(fwd, SourceModel) else source_model(fwd)
        if noise_cov is not None and not isinstance(noise_cov, mne.Covariance):
            raise TypeError(f"noise_cov must be an mne.Covariance or None, got {type(noise_cov).__name__}.")
        layout = source_layout(fwd, head)
        self._set(head, layout, _network(model, seed), noise_cov, ready=model is not None, trained={})

    def _set(
        self, head: SourceModel, layout: Any, base: BrainForge, noise_cov: Any, *, ready: bool, trained: dict
    ) -> None:
        self.head, self.layout, self.base, self.noise_cov = head, layout, base.eval(), noise_cov
        self.network = base.bind_head(
            head.leadfield, head.positions, head.normals, head.neighbours, head.electrodes, head.ch_names
        ).eval()
        self.ready, self.trained = ready, dict(trained)

    def __repr__(self) -> str:
        """Say what it is for."""
        how = f"trained for {self.trained['steps']} steps on this head" if self.trained else "not trained on this head"
        return f"<BrainForgeInverse | {self.head.n_channels} channels, {self.head.n_sources} sources, {how}>"

    @verbose
    def fit(
        self,
        simulator: SourceSimulator | Sequence[SourceSimulator] | None = None,
        *,
        steps: int = 300,
        batch_size: int = 16,
        lr: float | None = None,
        known_noise: float = 0.7,
        seed: int = 0,
        folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        device: str | None = None,
        verbose: bool | str | int | None = None,
    ) -> Self:
        """Train on windows that are simulated for this head.

        Parameters
        ----------
        simulator : SourceSimulator | sequence of SourceSimulator | None
            Of this head, or of finer ones whose truth is told on this head (``estimated``); of several, each batch has
            one, with windows of another length, say. ``None``: one to three sources of 5 to 60 mm at -2 to 22 dB in
            white and coloured noise and background, with electrodes that drop out and lie elsewhere by 3 mm.
        steps : int
            Updates of the weights. 300 adjust trained weights in minutes; fresh ones need thousands.
        batch_size : int
            Windows of a step.
        lr : float | None
            Largest learning rate; ``None``: 5e-4 for trained weights, 2e-3 for fresh ones.
        known_noise : float
            Share of batches that come with the covariance of their noise.
        seed : int
            Of all windows.
        folder : path-like | None
            Gets checkpoints and logs, see :func:`mne_labram.training.pretrain.pretrain`; ``None`` keeps none.
        resume : bool
            Go on from the newest checkpoint in ``folder``, to the same weights as without an interruption.
        device : {"cpu", "cuda"} | None
            Where; ``None`` leaves it to Accelerate.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        self : BrainForgeInverse
            Trained.

        Raises
        ------
        ContractError
            If the simulator is of another head.
        ValueError
            If a number makes no sense, or there is a checkpoint of another training in the folder.
        FileExistsError
            If there are checkpoints in the folder and ``resume`` is false.
        """
        if resume and folder is None:
            raise ValueError("A training is gone on with from the checkpoints in its folder; give folder.")
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}.")
        if simulator is None:
            simulator = SourceSimulator(
                self.head, default_bank(), snr_db=(-2.0, 22.0), noise=("white", "coloured"), seed=seed
            )
        n_batches = min(steps, EPOCH)
        batches: Any = SimulatedBatches(
            simulator, n_batches=n_batches, batch_size=batch_size, known_noise=known_noise, seed=seed
        )
        if batches.simulators[0].estimated.digest != self.head.digest:
            raise ContractError(
                "The simulator draws from another head than this inverse has (channels, positions or leadfield "
                "differ); make it with SourceSimulator(inverse.head)."
            )
        rate = lr if lr is not None else _LR_TRAINED if self.ready else _LR_FRESH
        settings = head_settings(steps, rate, weight_decay=0.01, clip_grad=1.0)
        training = HeadTraining(self.network, self.base, self.head.digest)
        with tempfile.TemporaryDirectory(prefix="mne-labram-") as temporary:
            where = Path(temporary) if folder is None else Path(folder).expanduser()
            try:
                done = pretrain(training, batches, where, settings=settings, seed=seed, resume=resume, device=device)
            finally:
                training.to("cpu")
                self.network.eval()
                self.base.eval()
        metrics = {name: float(value) for name, value in done.metrics.items()}
        self.ready, self.trained = True, {"steps": done.step, "batch_size": batch_size, "seed": seed, **metrics}
        return self

    @verbose
    def apply(
        self,
        inst: mne.Evoked | mne.BaseEpochs | BaseRaw,
        *,
        window: float = 1.0,
        start: float | None = None,
        stop: float | None = None,
        return_generator: bool = False,
        assume_unit: str | None = None,
        batch_size: int = 8,
        verbose: bool | str | int | None = None,
    ) -> Any:
        """Find sources.

        Parameters
        ----------
        inst : mne.Evoked | mne.Epochs | mne.io.Raw
            The recording, in volts as MNE has it, in any reference. Channels are found by their names; bad ones are
            left out, as are those that only the forward has. Not modified.
        window : float
            Seconds in which sources are judged together. Longer signals are cut into windows of which one begins in
            the middle of the other, and what is found fades from one to the next.
        start, stop : float | None
            Part of a Raw, in seconds after its first sample.
        return_generator : bool
            Yield one source estimate per epoch, or, for Raw, of one stretch after the other, in bounded memory.
        assume_unit : {"V", "mV", "uV", "nV"} | None
            Unit of the numbers in ``inst``, where they are not volts.
        batch_size : int
            Windows that are judged together.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        stc : mne.SourceEstimate | mne.MixedSourceEstimate | list | generator
            Dipole moments along the normals in Am, at the times of the recording; mixed if the forward has deep points;
            a list for Epochs, a generator if ``return_generator``.

        Raises
        ------
        ContractError
            If the network was never trained; channels are missing in the forward or in the noise covariance, bipolar,
            constant or fewer than eight; values are not finite or not those of an EEG; or the sources would not fit
            into memory.
        TypeError
            If ``inst`` is none of the three.
        ValueError
            If a number makes no sense.

        Notes
        -----
        Sources are judged on the signal at 100 Hz, and found in the signal as it is, at its own rate. The average
        reference is taken inside: the result does not depend on the reference of the recording. What projections, ICA
        or interpolation took out of the data is taken out of the leadfield too.
        """
        if not self.ready:
            raise ContractError("The weights are fresh and know nothing yet; call fit first, or take model='...'.")
        if not (isinstance(window, (int, float)) and math.isfinite(window) and window > 0.0):
            raise ValueError(f"window must be a positive number of seconds, got {window!r}.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
        names = eeg_channels(inst)
        head = head_of_channels(self.head, names)
        if (start is not None or stop is not None) and not isinstance(inst, BaseRaw):
            raise ValueError("start and stop choose a part of a Raw; crop Epochs and Evoked instead.")
        if isinstance(inst, mne.BaseEpochs) and not inst.preload:
            # Only after that is it known how many there are; not in the caller's object.
            inst = inst.copy().drop_bad(verbose="ERROR")
        factor, pieces = probe_signal(inst, names, assume_unit)
        nave = int(inst.nave) if isinstance(inst, mne.Evoked) else 1
        judge = WindowOperators(self.base, head, lost_directions(inst, names, pieces), noise=self.noise_cov, nave=nave)
        sfreq = float(inst.info["sfreq"])
        length = max(2, round(window * sfreq))
        estimate = self.layout.estimate
        if isinstance(inst, BaseRaw):
            first, last = _part(inst, start, stop)

            def read(a: int, b: int) -> np.ndarray:
                x = factor * inst.get_data(picks=names, start=first + a, stop=first + b)
                check_finite(x, names, f" between {(first + a) / sfreq:g} and {(first + b) / sfreq:g} s")
                return x

            found = faded_windows(read, judge.operators_of(sfreq), last - first, length, batch_size)
            if return_generator:
                return (estimate(out, (first + at) / sfreq, 1.0 / sfreq) for at, out in found)
            moments = self._whole(found, last - first)
            return estimate(moments, first / sfreq, 1.0 / sfreq)

        def sources(data: np.ndarray) -> Any:
            x = factor * data
            check_finite(x, names)
            found = faded_windows(lambda a, b: x[:, a:b], judge.operators_of(sfreq), x.shape[1], length, batch_size)
            return estimate(self._whole(found, x.shape[1]), float(inst.times[0]), 1.0 / sfreq)

        if isinstance(inst, mne.Evoked):
            out = sources(inst.get_data(picks=names))
            return iter([out]) if return_generator else out
        if not return_generator:
            self._check_size(len(inst) * len(inst.times), "epochs")
        rows = [inst.ch_names.index(name) for name in names]
        each = (sources(epoch[rows]) for epoch in _epochs(inst))
        return each if return_generator else list(each)

    def _check_size(self, n_times: int, what: str) -> None:
        n_bytes = 4 * self.head.n_sources * n_times
        if n_bytes > _LARGEST:
            raise ContractError(
                f"The sources of these {what} would take {n_bytes / 2**30:.1f} GiB at once; pass "
                "return_generator=True, or a part (start, stop), or resample the data."
            )

    def _whole(self, found: Iterator[tuple[int, np.ndarray]], n_times: int) -> np.ndarray:
        self._check_size(n_times, "data")
        moments = np.empty((self.head.n_sources, n_times), np.float32)
        for at, out in found:
            moments[:, at : at + out.shape[1]] = out
        return moments

    def where(self, stc: mne.SourceEstimate | mne.MixedSourceEstimate) -> str:
        """Say where a source estimate of this head is largest.

        Parameters
        ----------
        stc : mne.SourceEstimate | mne.MixedSourceEstimate
            From :meth:`apply`.

        Returns
        -------
        text : str
            Hemisphere, vertex, place in the head's frame, time and moment.
        """
        row, column = np.unravel_index(int(np.abs(stc.data).argmax()), stc.data.shape)
        number = int(np.searchsorted(np.cumsum([len(each) for each in stc.vertices]), row, side="right"))
        vertex = int(np.concatenate(stc.vertices)[row])
        place = self.layout.ordered(self.head.positions)[row] * 1000.0
        name = ("left", "right")[number] if number < 2 else "deep"
        x, y, z = (f"{value:.0f}" for value in place)
        return (
            f"Largest in the {name} {'hemisphere' if number < 2 else 'points'}, vertex {vertex} ({x}, {y}, {z} mm in "
            f"the head's frame), {abs(float(stc.data[row, column])) * 1e9:.3g} nAm at {stc.times[column]:.3f} s"
        )

    def save(self, fname: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write everything that is needed to find sources, the head included.

        Parameters
        ----------
        fname : path-like
            A name that ends in ``.safetensors``.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        path : Path
            The file.

        Raises
        ------
        ValueError
            If the name ends in something else, or a weight is not finite.
        FileExistsError
            If the file exists and ``overwrite`` is false.
        """
        return write_inverse(
            fname,
            self.head,
            self.layout,
            self.base,
            self.noise_cov,
            {"ready": self.ready, "trained": self.trained},
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, fname: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; all of it fits, or nothing is loaded.

        Parameters
        ----------
        fname : path-like
            The file.

        Returns
        -------
        inverse : BrainForgeInverse
            As it was saved; no forward is needed.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged or of another kind.
        """
        head, layout, base, noise_cov, state = read_inverse(fname)
        new = cls.__new__(cls)
        new._set(head, layout, base, noise_cov, ready=state["ready"], trained=state["trained"])
        return new


def _network(model: Any, seed: int) -> BrainForge:
    if model is None:
        return fresh_network(seed)
    if isinstance(model, BrainForge):
        return deepcopy(model)
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"model must be a BrainForge, a name, a path or None, got {type(model).__name__}; see list_pretrained()."
        )
    try:
        loaded = load_model(model)
    except FileNotFoundError as error:
        own = "; BrainForgeInverse(fwd, model=None).fit() trains one without any weights."
        raise FileNotFoundError(str(error).removesuffix(".") + own) from None
    if not isinstance(loaded, BrainForge):
        raise TypeError(f"{os.fspath(model)!r} holds a {type(loaded).__name__} and sources are found by a BrainForge.")
    return loaded


def _part(raw: BaseRaw, start: float | None, stop: float | None) -> tuple[int, int]:
    """Return samples of a part in seconds."""
    sfreq, n_times = float(raw.info["sfreq"]), len(raw.times)
    first = 0 if start is None else round(start * sfreq)
    last = n_times if stop is None else round(stop * sfreq)
    if not 0 <= first < last <= n_times or last - first < 2:
        raise ValueError(
            f"start and stop must lie within the recording of {n_times / sfreq:g} s, got {start} and {stop}."
        )
    return first, last


def _epochs(epochs: mne.BaseEpochs) -> Iterator[np.ndarray]:
    """Yield one epoch after the other; those that are read from a file one at a time."""
    for number in range(len(epochs)):
        data = epochs.get_data(item=[number], verbose="ERROR")
        if len(data):
            yield data[0]
