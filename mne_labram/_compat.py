"""What must be in place before Braindecode is imported, and right after.

Before: torchaudio. Braindecode imports it, and torchaudio loads its compiled part while it is being imported. Beside a
CPU build of torch, or one of another CUDA version, that fails (``OSError: Could not load this library``, or
``RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions``) although Braindecode
needs nothing of it that is compiled. After: our models, in Braindecode's tables.

Both could be done when mne_labram is imported, at the price of five seconds for whoever only wants to look at a
recording. They are done when Braindecode is imported, and nobody can see the difference: :func:`watch_braindecode`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

from mne.utils import logger

__all__ = ["repair_torchaudio", "watch_braindecode"]

_EXTENSION = "torchaudio._extension"


def repair_torchaudio() -> str:
    """Import torchaudio, without its compiled part where that cannot be loaded.

    Returns
    -------
    state : {"healthy", "repaired", "absent"}
        ``"healthy"``: torchaudio imports, and nothing was changed. ``"repaired"``: it imports since the module
        ``torchaudio._extension`` was replaced by one that says "nothing is compiled here", a state torchaudio knows.
        ``"absent"``: torchaudio is not installed; nothing was changed.

    Raises
    ------
    OSError, RuntimeError
        If torchaudio cannot be imported for another reason than its compiled part: the error it raised itself.

    Notes
    -----
    A repair is logged once; a second call changes nothing.
    """
    if isinstance(sys.modules.get(_EXTENSION), _AbsentExtension):
        return "repaired"
    if sys.modules.get("torchaudio") is None and importlib.util.find_spec("torchaudio") is None:
        return "absent"
    try:
        importlib.import_module("torchaudio")
    except (OSError, RuntimeError) as error:
        if not _raised_by_extension(error):
            raise
        reason = str(error.__cause__ or error).splitlines()[0]
    else:
        return "healthy"
    # A failed import leaves its sub-modules behind, and they must not be mixed with those of the next attempt.
    for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
        del sys.modules[name]
    sys.modules[_EXTENSION] = _AbsentExtension(_EXTENSION)
    try:
        importlib.import_module("torchaudio")
    except BaseException:
        del sys.modules[_EXTENSION]
        raise
    logger.info(f"torchaudio is used without its compiled part, which Braindecode does not need: {reason}")
    return "repaired"


def _raised_by_extension(error: BaseException) -> bool:
    """Tell whether an error came out of ``torchaudio._extension`` or something that it called."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == _EXTENSION:
            return True
        trace = trace.tb_next
    return False


class _AbsentExtension(types.ModuleType):
    """Stand in for ``torchaudio._extension`` where nothing is compiled.

    It has what torchaudio's other files read of it (torchaudio 2.0 to 2.11): flags, ``fail_if_no_*`` decorators and,
    in modules that only a caller who needs compiled code imports, ``_load_lib``.
    """

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False
    _IS_RIR_AVAILABLE = False
    _IS_KALDI_AVAILABLE = False

    def __init__(self, name: str) -> None:
        super().__init__(name, "torchaudio's compiled part does not load here (see mne_labram._compat).")
        self.__spec__ = ModuleSpec(name, loader=None)

    @staticmethod
    def _load_lib(lib: str) -> bool:
        """Say that a compiled library is not there."""
        return False

    def __getattr__(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., NoReturn]]:
        if not name.startswith("fail_if_no_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _refuse


def _refuse(func: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Replace a function of torchaudio that exists in compiled code only by one that says so."""

    @functools.wraps(func)
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(f"{func.__module__}.{func.__name__} needs the compiled part of torchaudio.")

    return refuse


def watch_braindecode() -> None:
    """Have torchaudio repaired before, and our models registered after, Braindecode is imported.

    Where Braindecode has been imported already, the models are registered now. A second call changes nothing.
    """
    if "braindecode" in sys.modules:
        _register_models()
    if not any(isinstance(finder, _BraindecodeFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BraindecodeFinder())


def _register_models() -> None:
    """Register our models, unless they are what asked for Braindecode: they register themselves when complete."""
    if "mne_labram.models" not in sys.modules:
        importlib.import_module("mne_labram.models")


class _BraindecodeFinder(MetaPathFinder):
    """Find ``braindecode`` as the other finders do, and wrap the loader that they found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "braindecode":
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _BraindecodeLoader(spec.loader)
                return spec
        return None


class _BraindecodeLoader(Loader):
    """Load ``braindecode`` between the two things that must happen around it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self.loader  # readers of package data ask for the real one
        repair_torchaudio()
        with warnings.catch_warnings():
            # Nothing a user can act on: braindecode 1.8.1, models/eegpt.py, asks MNE for a montage by its old name.
            warnings.filterwarnings("ignore", "Montage name 'standard_1020' is deprecated", FutureWarning)
            self.loader.exec_module(module)
        _register_models()
