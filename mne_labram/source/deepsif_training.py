"""DeepSIF trained for a head, by the engine of all trainings, on the windows that BrainForge is trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mne.utils import verbose

from mne_labram.models.deepsif import DeepSIF
from mne_labram.signal.contract import ContractError
from mne_labram.source.bank_making import default_bank
from mne_labram.source.head import SourceModel
from mne_labram.source.simulate import SourceSimulator
from mne_labram.source.simulated_batches import EPOCH, HeadTraining, SimulatedBatches, head_settings
from mne_labram.training.outcome import Pretraining
from mne_labram.training.pretrain import pretrain

__all__ = ["fresh_deepsif", "train_deepsif"]


def fresh_deepsif(head: SourceModel, *, sfreq: float = 100.0, seed: int = 0, **options: Any) -> DeepSIF:
    """Make a network with weights to begin a training with.

    Parameters
    ----------
    head : SourceModel
        Whose channels, sources and leadfield it has.
    sfreq : float
        Samples per second of the windows.
    seed : int
        Of the weights.
    **options : object
        Sizes, see :class:`mne_labram.DeepSIF`.

    Returns
    -------
    network : DeepSIF
        In training mode; the caller's random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = DeepSIF(ch_names=list(head.ch_names), n_sources=head.n_sources, sfreq=sfreq, **options)
    return network.set_leadfield(head.leadfield)


@verbose
def train_deepsif(
    head: SourceModel,
    folder: str | os.PathLike[str],
    *,
    network: DeepSIF | None = None,
    simulator: SourceSimulator | None = None,
    steps: int = 3000,
    batch_size: int = 64,
    lr: float = 3e-4,
    clip_grad: float | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    verbose: bool | str | int | None = None,
) -> Pretraining:
    """Train DeepSIF for a head.

    Parameters
    ----------
    head : SourceModel
        Electrodes, sources and leadfield.
    folder : path-like
        Gets ``final.safetensors``, checkpoints and logs, see :func:`mne_labram.training.pretrain.pretrain`.
    network : DeepSIF | None
        What is trained, in place; ``None``: fresh weights of the published size, which take about 10 s for a step of
        16 windows on a core.
    simulator : SourceSimulator | None
        Of this head. ``None``: what :meth:`mne_labram.BrainForgeInverse.fit` takes (one to three sources of 5 to 60 mm
        at -2 to 22 dB in white and coloured noise, electrodes that lie elsewhere by 3 mm), but that no channel is ever
        absent: the published network has no way to know.
    steps : int
        Updates of the weights. The published training had 60 thousand, of 64 windows each.
    batch_size : int
        Windows of a step.
    lr : float
        Largest learning rate; as published, but that it rises for a twentieth of the steps and falls as a cosine.
    clip_grad : float | None
        Largest norm of the gradient; none as published.
    seed : int
        Of weights and windows.
    resume : bool
        Go on from the newest checkpoint in ``folder``, to the same weights as without an interruption.
    device : {"cpu", "cuda"} | None
        Where; ``None`` leaves it to Accelerate.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    pretraining : Pretraining
        How it ended; its ``weights`` are the checkpoint, which ``mne-labram benchmark source --model`` takes.

    Raises
    ------
    ContractError
        If the network or the simulator is of another head.
    TypeError
        If ``head`` is no SourceModel.
    ValueError
        If a number makes no sense, or there is a checkpoint of another training in the folder.
    FileExistsError
        If there are checkpoints in the folder and ``resume`` is false.

    Notes
    -----
    The published training (bfinl/DeepSIF, main.py) is Adam at a learning rate of 3e-4 with a penalty of 1e-6, 20 epochs
    of 190,848 windows. Ours is AdamW without decay, which for so small a penalty is the same.
    """
    if not isinstance(head, SourceModel):
        raise TypeError(f"head must be a SourceModel, got {type(head).__name__}; make it with source_model(fwd).")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}.")
    if simulator is None:
        simulator = SourceSimulator(
            head, default_bank(), snr_db=(-2.0, 22.0), noise=("white", "coloured"), channel_dropout=0.0, seed=seed
        )
    n_batches = min(steps, EPOCH)
    batches: Any = SimulatedBatches(simulator, n_batches=n_batches, batch_size=batch_size, known_noise=0.0, seed=seed)
    if batches.fingerprint()["head"] != head.digest:
        raise ContractError(
            "The simulator draws from another head than the network is for (channels, positions or leadfield differ); "
            "make it with SourceSimulator(head)."
        )
    if network is None:
        network = fresh_deepsif(head, sfreq=simulator.sfreq, seed=seed)
    network.check_head(head.leadfield, head.ch_names)
    settings = head_settings(steps, lr, weight_decay=0.0, clip_grad=clip_grad)
    training = HeadTraining(network, network, head.digest)
    try:
        return pretrain(
            training, batches, Path(folder).expanduser(), settings=settings, seed=seed, resume=resume, device=device
        )
    finally:
        training.to("cpu")
        network.eval()
