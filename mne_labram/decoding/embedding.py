"""Embeddings as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

from mne_labram.decoding.base import EEGTransformer

__all__ = ["EEGEmbedding"]


class EEGEmbedding(EEGTransformer):
    """Embed windows with a foundation model.

    Parameters
    ----------
    model : LabramForMaskedModeling | LabramForClassification | EEGClassifier | str | Path
        The model, a fitted classifier around one, a checkpoint file, or a name of
        :func:`mne_labram.list_pretrained`. A path or a name keeps the estimator small to clone, pickle and hash (MOABB
        names its results after the parameters).
    pooling : {"mean", "cls", "channels", "tokens"}
        ``"mean"`` or ``"cls"``: ``embed_dim`` features, whatever the montage. ``"channels"``: ``n_chans * embed_dim``,
        usually better for a linear classifier. ``"tokens"``: ``n_chans * n_patches * embed_dim``.
    channels : {"recording", "model"}
        Every channel of the data that has an embedding, or only those the model was built with.
    ch_names : list of str | None
        Channel names of arrays.
    sfreq : float | None
        Sampling rate of arrays in Hz.
    window, stride : float | None
        Window length and step in seconds for Raw; ``None``: the model's window, without overlap.
    match : {"name", "position"}
        How channels find their embedding, see :func:`mne_labram.conform`.
    assume_unit : str | None
        Unit of the numbers where the recording's unit is wrong, see :func:`mne_labram.conform`.
    line_freq : float | None
        50 or 60 Hz; ``None`` takes ``info["line_freq"]``.
    gaps : {"raise", "split"}
        What to do with an EDF+D file.
    on_unusable : {"raise", "keep"}
        What to do with windows that hold NaN, flat or clipped seconds: refuse, or keep them as rows of NaN.
    batch_size : int
        Windows per forward pass.
    precision : {"auto", "float32", "bf16"}
        Number format; ``"auto"`` picks what the processor does well.
    device : str | None
        ``None``: where the model is.

    Attributes
    ----------
    module_ : torch.nn.Module
        The model.
    ch_names_ : list of str
        Channels kept, in order.
    length_ : int
        Samples in a window at the model's rate.
    feature_names_ : list of str
        Names of the columns.
    n_features_in_ : int
        Channels of the data given to ``fit``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> make_pipeline(EEGEmbedding("labram-tiny"), LogisticRegression())  # doctest: +SKIP
    """

    _kind = "embed"

    def __init__(
        self,
        model: Any = "labram-tiny",
        pooling: str = "mean",
        *,
        channels: str = "recording",
        ch_names: list[str] | None = None,
        sfreq: float | None = None,
        window: float | None = None,
        stride: float | None = None,
        match: str = "name",
        assume_unit: str | None = None,
        line_freq: float | None = None,
        gaps: str = "raise",
        on_unusable: str = "raise",
        batch_size: int = 32,
        precision: str = "auto",
        device: str | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.channels = channels
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.window = window
        self.stride = stride
        self.match = match
        self.assume_unit = assume_unit
        self.line_freq = line_freq
        self.gaps = gaps
        self.on_unusable = on_unusable
        self.batch_size = batch_size
        self.precision = precision
        self.device = device

    def _pooling(self) -> str:
        return self.pooling

    def _by_channel(self) -> bool:
        return self.pooling in ("channels", "tokens")

    def _names(self, ch_names: list[str], shape: tuple[int, ...]) -> list[str]:
        if self.pooling == "channels":
            return [f"{name}_{i}" for name in ch_names for i in range(shape[1])]
        if self.pooling == "tokens":
            return [f"{name}_patch{j}_{i}" for name in ch_names for j in range(shape[1]) for i in range(shape[2])]
        return [f"{self.pooling}_{i}" for i in range(shape[0])]
