"""What a model may be fed, written down once per checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any

from mne_labram.signal.vocabulary import VOCABULARIES

__all__ = ["LABRAM_CONTRACT", "ContractError", "SignalContract"]


class ContractError(ValueError):
    """A recording cannot be made into what the model was trained on.

    The message is one sentence: what is wrong, and what to do.
    """


@dataclass(frozen=True)
class SignalContract:
    """The signal a checkpoint was trained on.

    Parameters
    ----------
    name : str
        Name used in reports and error messages.
    sfreq : float
        Sampling rate in Hz.
    l_freq, h_freq : float | None
        Band edges in Hz; ``None`` leaves that side open.
    notch : bool
        Remove line noise (50 or 60 Hz and its harmonics below the Nyquist frequency). The frequency is the
        recording's, not the checkpoint's.
    reference : {"recorded", "average"}
        ``"recorded"`` leaves the reference as it is, as the official LaBraM preparation does. ``"average"`` takes
        the mean over the kept channels; bipolar channels are never re-referenced.
    scale : float
        Microvolts per unit inside the model. The model itself divides; it is stated here for readers.
    patch_samples : int
        Samples in one patch (token) at ``sfreq``.
    max_patches : int
        Longest window in patches.
    vocabulary : {"labram", "gram"} | None
        Names that have an embedding row: LaBraM's 128 or Gram's 130. ``None``: any electrode whose position is known.
    montages : tuple of {"referential", "bipolar"}
        Montages the checkpoint accepts.

    Notes
    -----
    Defaults are the official LaBraM preparation: 0.1-75 Hz, notch, 200 Hz, microvolts divided by 100, one-second
    patches, at most 16 of them (Jiang et al. 2024, section 3.2; LaBraM, dataset_maker/ and modeling_finetune.py).
    """

    name: str = "LaBraM"
    sfreq: float = 200.0
    l_freq: float | None = 0.1
    h_freq: float | None = 75.0
    notch: bool = True
    reference: str = "recorded"
    scale: float = 100.0
    patch_samples: int = 200
    max_patches: int = 16
    vocabulary: str | None = "labram"
    montages: tuple[str, ...] = ("referential", "bipolar")

    def __post_init__(self) -> None:
        if not self.sfreq > 0:
            raise ValueError(f"sfreq must be positive, got {self.sfreq}.")
        if self.l_freq is not None and self.h_freq is not None and not self.l_freq < self.h_freq:
            raise ValueError(f"l_freq ({self.l_freq} Hz) must lie below h_freq ({self.h_freq} Hz).")
        if self.h_freq is not None and not self.h_freq < self.sfreq / 2:
            raise ValueError(f"h_freq ({self.h_freq} Hz) must lie below half of sfreq ({self.sfreq} Hz).")
        if self.reference not in ("recorded", "average"):
            raise ValueError(f"reference must be 'recorded' or 'average', got {self.reference!r}.")
        if self.vocabulary is not None and self.vocabulary not in VOCABULARIES:
            raise ValueError(
                f"vocabulary must be {', '.join(map(repr, VOCABULARIES))} or None, got {self.vocabulary!r}."
            )
        if not all(isinstance(n, Integral) for n in (self.patch_samples, self.max_patches)):
            raise TypeError("patch_samples and max_patches must be whole numbers.")
        if self.patch_samples < 1 or self.max_patches < 1:
            raise ValueError("patch_samples and max_patches must be at least 1.")
        montages = tuple(self.montages)
        if not montages or not set(montages) <= {"referential", "bipolar"}:
            raise ValueError(f"montages must hold 'referential' and/or 'bipolar', got {self.montages!r}.")
        object.__setattr__(self, "montages", montages)

    @property
    def patch_seconds(self) -> float:
        """Length of one patch in seconds."""
        return self.patch_samples / self.sfreq

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        out = asdict(self)
        out["montages"] = list(self.montages)
        return out

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> SignalContract:
        """Build a contract from :meth:`to_dict`'s output."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"Unknown fields in a signal contract: {', '.join(unknown)}.")
        return cls(**{**fields, "montages": tuple(fields.get("montages", ("referential", "bipolar")))})


#: The official LaBraM preparation.
LABRAM_CONTRACT = SignalContract()
