"""What all models have in common before a signal goes in: arguments on record, values looked at, a contract."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mne_labram.signal.contract import SignalContract

__all__ = ["SignalMixin", "contract_fields"]

# Peak in microvolts below which a signal cannot be EEG but may be volts.
_VOLTS_PEAK = 0.01


class SignalMixin:
    """Checks of input, and the memory of arguments; used beside Braindecode's mixin.

    A plain class: Braindecode's metaclass records the arguments of every ``__init__`` of its own kind that runs, so a
    base class with one would overwrite what the model was built with.
    """

    _warned_of_volts: bool = False
    _input_was_checked: bool = False

    def _record(self, **values: Any) -> None:
        """Correct what Braindecode (and its hub mixin, if installed) remember of the arguments of ``__init__``."""
        for config in (getattr(self, "_braindecode_init_kwargs", None), getattr(self, "_hub_mixin_config", None)):
            if config is not None:
                config.update(values)

    def _whole_window(
        self, x: Tensor, visible: Tensor | None, n_chans: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Check a signal of any length, (batch, n_chans, n_times) in µV, and which channels of it are to be believed.

        Returns both, in ``dtype``; ``visible``, (batch, n_chans), is 1 everywhere where it was not given.
        """
        if x.ndim != 3 or x.shape[1] != n_chans or not x.shape[2]:
            raise ValueError(
                f"Input must have the shape (batch, {n_chans}, n_times), as the model is for {n_chans} channels; got "
                f"{tuple(x.shape)}."
            )
        self._look_at(x)
        x = x.to(dtype)
        if visible is None:
            return x, x.new_ones(x.shape[:2])
        if visible.shape != x.shape[:2]:
            raise ValueError(f"visible must have the shape {tuple(x.shape[:2])}, got {tuple(visible.shape)}.")
        return x, visible.to(x)

    def _look_at(self, x: Tensor) -> None:
        """Check values, where there are any.

        On the CPU in every batch (0.1 % of the time of a forward pass) and elsewhere in the first one only, because it
        makes the device wait.
        """
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing() or x.is_meta):
            self._check_values(x)

    def _check_values(self, x: Tensor) -> None:
        """Refuse NaN; warn once of volts."""
        if not len(x) or (x.device.type != "cpu" and self._input_was_checked):
            return
        self._input_was_checked = True
        low, high = torch.aminmax(x.detach())
        peak = float(torch.maximum(-low, high))
        if not np.isfinite(peak):
            raise ValueError(
                "Input holds NaN or infinite values; leave such windows out or fill them, they give no result."
            )
        if 0.0 < peak < _VOLTS_PEAK and not self._warned_of_volts:
            self._warned_of_volts = True
            warnings.warn(
                f"The largest value of the input is {peak:.2g} µV: it looks like volts, but "
                f"{type(self).__name__} takes microvolts; multiply by 1e6.",
                UserWarning,
                stacklevel=5,
            )


def contract_fields(contract: SignalContract | Mapping[str, Any] | None) -> dict[str, Any]:
    """Take the fields of a contract that are not given by the model itself.

    Parameters
    ----------
    contract : SignalContract | mapping | None
        A contract, or some of its fields.

    Returns
    -------
    fields : dict
        How the signal was prepared: name, band, notch, reference, montages. Plain JSON values.

    Raises
    ------
    ValueError
        If a field is unknown.
    """
    if contract is None:
        return {}
    given = asdict(contract) if isinstance(contract, SignalContract) else dict(contract)
    unknown = sorted(set(given) - {field.name for field in fields(SignalContract)})
    if unknown:
        raise ValueError(f"Unknown fields in a signal contract: {', '.join(unknown)}.")
    own = ("name", "l_freq", "h_freq", "notch", "reference", "montages")
    # Lists, as in JSON, so that what is recorded is what is read back.
    return {name: list(value) if name == "montages" else value for name, value in given.items() if name in own}
