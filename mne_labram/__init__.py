"""EEG foundation models and tokenizers for MNE-Python, Braindecode and MOABB."""

import lazy_loader

from mne_labram._compat import watch_braindecode
from mne_labram.pipe import add_pipe_method
from mne_labram.pipe import pipe as pipe  # before the lazy names: the function, not the module of that name

__version__ = "0.1.0.dev0"

# The public names are listed in __init__.pyi and imported when they are first used: torch and Braindecode together
# take five seconds, and checking a recording needs neither.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

add_pipe_method()
watch_braindecode()
