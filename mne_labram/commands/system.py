"""Versions and processor, for a bug report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["system_lines"]

_PACKAGES = "mne-labram mne braindecode torch torchaudio skorch scikit-learn numpy scipy moabb".split()


def system_lines() -> list[str]:
    """Return what a bug report needs, a line each.

    Returns
    -------
    lines : list of str
        Python, platform, packages, device and the precision that "auto" means here.
    """
    import torch

    from mne_labram.nn.precision import resolve_precision

    lines = [f"{'Python':<16}{platform.python_version()} on {platform.platform()}"]
    for package in _PACKAGES:
        try:
            lines.append(f"{package:<16}{version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package:<16}not installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    lines.append(f"{'device':<16}{device} ({name}), precision='auto' is {resolve_precision('auto', device)}")
    return lines
