"""What a coder of blocks is, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mne_labram.signal.contract import ContractError

__all__ = [
    "CODERS",
    "LARGEST_VALUE",
    "BlockCoder",
    "check_weights",
    "checked_block",
    "coder_class",
    "make_coder",
    "restore_coder",
]

#: Where the coders are, by the name that stands in a file. Imported when they are used.
CODERS: dict[str, str] = {
    "hybrid": "mne_labram.codec.hybrid:HybridCoder",
    "neural": "mne_labram.codec.neural:NeuralCoder",
    "lossless": "mne_labram.codec.lossless:LosslessCoder",
}
#: Microvolts beyond which nothing is coded with an error: a million volts. What is larger is no signal, and integers
#: and float32 inside the coders would overflow.
LARGEST_VALUE = 1e12


@runtime_checkable
class BlockCoder(Protocol):
    """Turn one block of a recording into bytes and back.

    Blocks are independent of one another, and so are calls: the same samples give the same bytes, in any process.
    Coders of ``"lossless"`` take and give integers (int32) in place of microvolts.

    Notes
    -----
    A class is made in two ways: ``make(sfreq=..., ch_names=..., block_samples=..., **options)``, a class method, for a
    recording; and ``Class(**parameters)`` from a file.
    """

    name: str

    def parameters(self) -> dict[str, Any]:
        """Return what another process needs to decode: JSON, kept in the file's header.

        Weights stand there by name and SHA-256; the class refuses others, naming both (:func:`check_weights`).
        """
        ...

    def encode(self, samples: np.ndarray, *, bits: int | None) -> bytes:
        """Return the bytes of a block.

        Parameters
        ----------
        samples : ndarray, shape (n_channels, n_samples)
            Microvolts, finite, at the recording's own rate.
        bits : int | None
            How many may be spent on the whole block; ``None``: as the coder pleases.
        """
        ...

    def decode(self, payload: bytes, n_samples: int) -> np.ndarray:
        """Return the samples of a block, shape (n_channels, n_samples).

        Parameters
        ----------
        payload : bytes
            From :meth:`encode`.
        n_samples : int
            Samples of the block.

        Raises
        ------
        ValueError
            If this cannot be a payload of this coder.
        """
        ...


def coder_class(name: str) -> Any:
    """Return a class of coders.

    Parameters
    ----------
    name : str
        One of :data:`CODERS`.

    Returns
    -------
    coder : type
        The class.

    Raises
    ------
    ContractError
        If there is none of this name.
    """
    if not isinstance(name, str) or name not in CODERS:
        raise ContractError(f"There is no mode {name!r}; there are {', '.join(map(repr, sorted(CODERS)))}.")
    module, _, attribute = CODERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_coder(name: str, *, sfreq: float, ch_names: list[str], block_samples: int, **options: Any) -> BlockCoder:
    """Make the coder for a recording.

    Parameters
    ----------
    name : str
        One of :data:`CODERS`.
    sfreq : float
        Sampling rate of the recording in Hz.
    ch_names : list of str
        Channels that it will be given.
    block_samples : int
        Samples of a block; the last one may have up to half as many more.
    **options : object
        What the coder knows besides, such as ``bitrate`` in bit/s/channel.

    Returns
    -------
    coder : BlockCoder
        The coder.

    Raises
    ------
    ContractError
        If there is none of this name, or it cannot take such recordings.
    """
    made = coder_class(name)
    return made.make(sfreq=sfreq, ch_names=list(ch_names), block_samples=block_samples, **options)


def restore_coder(name: str, parameters: Mapping[str, Any]) -> BlockCoder:
    """Make the coder that a file was written with.

    Parameters
    ----------
    name : str
        As it stands in the file.
    parameters : mapping
        From :meth:`BlockCoder.parameters`.

    Returns
    -------
    coder : BlockCoder
        The coder.

    Raises
    ------
    ContractError
        If there is none of this name, its weights are not there, or it does not know these parameters.
    """
    if not isinstance(name, str) or name not in CODERS:
        raise ContractError(f"The file needs the coder {name!r}, which is not in this mne_labram; install a newer one.")
    try:
        return coder_class(name)(**parameters)
    except ContractError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ContractError(
            f"The coder {name!r} of this mne_labram does not take what the file says of it ({error}); install the "
            "mne_labram that wrote it."
        ) from error


def checked_block(samples: np.ndarray, n_channels: int) -> np.ndarray:
    """Look at a block before it is coded with an error.

    Parameters
    ----------
    samples : ndarray, shape (n_channels, n_samples)
        In µV.
    n_channels : int
        Channels that the coder was made for.

    Returns
    -------
    samples : ndarray of float64, shape (n_channels, n_samples)
        The same.

    Raises
    ------
    ValueError
        If the shape is another, or a value is not finite.
    ContractError
        If a value is beyond :data:`LARGEST_VALUE`.
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 2 or len(samples) != n_channels:
        raise ValueError(f"A block must have the shape ({n_channels}, n_samples), got {samples.shape}.")
    if not np.isfinite(samples).all():
        raise ValueError("A block holds values that are not finite; mark and replace them first.")
    if np.abs(samples).max(initial=0.0) > LARGEST_VALUE:
        raise ContractError(
            f"A block holds values beyond {LARGEST_VALUE:g} µV, which no coder can tell; drop or rescale that channel."
        )
    return samples


def check_weights(weights: Mapping[str, Any]) -> None:
    """Make sure that the weights a file needs are those that are installed.

    Parameters
    ----------
    weights : mapping
        ``name`` and ``sha256``.

    Raises
    ------
    ContractError
        If they are absent, or others of the same name.
    """
    from mne_labram.weights import list_pretrained, pretrained_card

    name, sha256 = weights.get("name"), weights.get("sha256")
    if name not in list_pretrained():
        raise ContractError(
            f"The file was written with the weights {name!r} (SHA-256 {sha256}), which are not installed; install the "
            "mne_labram that wrote it."
        )
    installed = pretrained_card(name)["sha256"]
    if installed != sha256:
        raise ContractError(
            f"The file was written with the weights {name!r} of SHA-256 {sha256}, and those installed have "
            f"{installed}; install the mne_labram that wrote it."
        )
