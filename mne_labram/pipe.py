"""``pipe``: hand a recording to a function, in a chain of methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mne import BaseEpochs, Evoked
from mne.io import BaseRaw

__all__ = ["add_pipe_method", "pipe"]


def pipe(inst: Any, func: Callable[..., Any] | tuple[Callable[..., Any], str], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function with a recording as its first argument.

    ``raw.pipe(func, option=1)`` is ``func(raw, option=1)``, written where it happens in a chain of methods:
    ``raw.copy().filter(1, 40).pipe(labram_annotate, model).plot()``. Importing :mod:`mne_labram` gives
    :class:`mne.io.Raw`, :class:`mne.Epochs` and :class:`mne.Evoked` this method where MNE has none of that name.

    Parameters
    ----------
    inst : Raw | Epochs | Evoked
        The recording; any other object is passed on as well.
    func : callable | tuple of (callable, str)
        The function. A tuple ``(func, "keyword")`` passes the recording as that keyword argument instead of the
        first one, as :meth:`pandas.DataFrame.pipe` does.
    *args : object
        Positional arguments of the function, after the recording.
    **kwargs : object
        Keyword arguments of the function.

    Returns
    -------
    result : object
        What the function returns.

    Raises
    ------
    TypeError
        If ``func`` is neither a callable nor a tuple of a callable and a keyword.
    ValueError
        If the keyword in the tuple is among ``kwargs`` too.

    Examples
    --------
    >>> from mne_labram import pipe
    >>> pipe([3, 1, 2], sorted, reverse=True)
    [3, 2, 1]
    """
    if callable(func):
        return func(inst, *args, **kwargs)
    if not (isinstance(func, tuple) and len(func) == 2 and callable(func[0]) and isinstance(func[1], str)):
        raise TypeError(
            f"func must be a callable or a tuple (callable, 'keyword') that names the argument to fill, got {func!r}."
        )
    func, keyword = func
    if keyword in kwargs:
        raise ValueError(f"{keyword!r} is the argument that the recording is passed as; do not give it a value too.")
    return func(*args, **kwargs, **{keyword: inst})


def add_pipe_method(*classes: type) -> None:
    """Give classes a ``pipe`` method where they have none.

    Parameters
    ----------
    *classes : type
        The classes to extend; by default MNE's base classes of Raw, Epochs and Evoked.
    """
    for cls in classes or (BaseRaw, BaseEpochs, Evoked):
        if not hasattr(cls, "pipe"):
            cls.pipe = pipe
