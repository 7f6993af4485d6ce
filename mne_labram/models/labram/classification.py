"""LaBraM with a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from braindecode.models import Labram
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.labram.base import LabramMixin
from mne_labram.models.labram.braindecode import (
    braindecode_arguments,
    braindecode_to_official,
    build_braindecode,
    name_mapping,
)
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.models.labram.official import official_classification
from mne_labram.models.labram.sizes import resolve_size
from mne_labram.models.labram.transfer import around_encoder
from mne_labram.models.labram.transformer import LabramTransformer
from mne_labram.nn.initialization import fresh_head

__all__ = ["LabramForClassification"]


class LabramForClassification(LabramMixin, EEGModuleMixin, nn.Module):
    r"""LaBraM for classification, from Jiang et al. (2024) [labram]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    One-second patches of every channel become tokens by a temporal convolution; tokens get an embedding of their
    channel and one of their position in time; a transformer mixes them; the mean over patch tokens (or the CLS token)
    is normalised and classified. With the default options and official weights it is the official
    ``NeuralTransformer`` (LaBraM, modeling_finetune.py) to float precision. Unlike it, the model takes microvolts and
    knows its channels from the moment it is built.

    Parameters
    ----------
    n_outputs : int | None
        Number of classes; ``None`` takes the number of ``class_names``.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole patches up to ``max_patches``, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are. With ``EEGClassifier`` on plain
        arrays: ``module__ch_names=[...]``.
    size : {"base", "large", "huge", "small"}
        Configuration: 200 x 12 x 10 (width, blocks, heads; 5.8 million parameters), 400 x 24 x 16 (46 million),
        800 x 48 x 16 (369 million), or ours for small machines, 128 x 4 x 4 (0.8 million).
    embed_dim, num_layers, num_heads : int | None
        Replace a number of the configuration.
    pooling : {"mean", "cls"}
        What is classified. The CLS token has no loss in the official pre-training, so the mean is the better choice
        for weights that come from there.
    spatial : {"names", "coordinates"}
        ``"names"``: a learned row for each of the 128 names of the official table. ``"coordinates"``: a function of
        electrode positions, of both ends for a bipolar channel (ours), which knows every montage.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    input_scale : float
        Microvolts per unit inside. Officially 100; 10 keeps more of the signal beside the position embedding when
        training starts from nothing.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        ``"conv+spectrum"`` adds a linear map of the patch's log power spectrum, 1-45 Hz (ours);
        ``"conv+periodogram"``, without the Hann window, is for tokenizers.
    patch_size : int
        Samples in a patch; official weights need 200.
    max_patches : int
        Longest window in patches.
    qk_norm, qkv_bias : bool
        Normalise queries and keys; learn a bias of queries and values.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, 0 has none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of tokens and branch outputs, of attention weights, and of whole branches (in the last block).
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    class_names : list of str | None
        Names of the outputs; kept for those who write annotations.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation (``name``, ``l_freq``, ``h_freq``,
        ``notch``, ``reference``).

    Raises
    ------
    ValueError
        If no channel names are known, a name has no row, the window is not made of whole patches, the sampling rate
        is not 200 Hz, or an option has a value that is not listed.

    Notes
    -----
    ``forward`` warns once when a batch looks like volts, and raises ValueError on NaN: GroupNorm would spread one bad
    channel over the whole window.

    References
    ----------
    .. [labram] Jiang, W., Zhao, L., & Lu, B. L. (2024). Large Brain Model for Learning Generic Representations with
       Tremendous EEG Data in BCI. The Twelfth International Conference on Learning Representations.
       https://github.com/935963004/LaBraM

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.labram import LabramForClassification
    >>> model = LabramForClassification(n_outputs=2, ch_names=["Fp1", "Fp2", "Cz"], n_times=800, size="small")
    >>> model(torch.randn(1, 3, 800)).shape
    torch.Size([1, 2])
    """

    _build_official = staticmethod(official_classification)

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        ch_names: list[str] | None = None,
        size: str = "base",
        embed_dim: int | None = None,
        num_layers: int | None = None,
        num_heads: int | None = None,
        pooling: str = "mean",
        spatial: str = "names",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 100.0,
        patch_embed: str = "conv",
        patch_size: int = 200,
        max_patches: int = 16,
        qk_norm: bool = True,
        qkv_bias: bool = False,
        layer_scale: float | None = None,
        drop_prob: float = 0.0,
        attn_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
        class_names: list[str] | None = None,
        contract: dict[str, Any] | None = None,
    ) -> None:
        if n_outputs is None and class_names is not None:
            n_outputs = len(class_names)
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=with_arrays(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        binding = self._prepare(
            n_chans=n_chans,
            chs_info=chs_info,
            ch_names=ch_names,
            ch_positions=ch_positions,
            spatial=spatial,
            patch_size=patch_size,
            max_patches=max_patches,
            input_scale=input_scale,
            contract=contract,
        )
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be 'mean' or 'cls', got {pooling!r}.")
        if class_names is not None and len(class_names) != self.n_outputs:
            raise ValueError(f"There are {len(class_names)} class names for n_outputs={self.n_outputs}.")
        self.class_names = None if class_names is None else list(class_names)
        self.pooling = pooling
        numbers = resolve_size(size, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads)
        self.encoder = self._build_encoder(
            binding,
            numbers,
            patch_embed=patch_embed,
            layer_scale=numbers.layer_scale if layer_scale is None else layer_scale,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            drop_path_prob=drop_path_prob,
            activation=activation,
        )
        self.final_layer = fresh_head(numbers.embed_dim, self.n_outputs)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; 1 to ``max_patches`` whole patches.
        return_features : bool
            Return tokens instead of logits.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            No softmax is applied.
        features : dict
            If ``return_features``: ``"features"``, normalised patch tokens in channel-major order, shape
            (batch, n_chans * n_patches, embed_dim), and ``"cls_token"``, shape (batch, embed_dim).

        Raises
        ------
        ValueError
            If the shape is not that of the bound channels and whole patches, or values are not finite.
        """
        tokens = self._encode(self._checked(x))
        if return_features:
            tokens = self.encoder.norm(tokens)
            return {"features": tokens[:, 1:], "cls_token": tokens[:, 0]}
        return self.final_layer(self._pool(tokens, self.pooling))

    def reset_head(self, n_outputs: int) -> None:
        """Replace the head by a fresh one.

        Parameters
        ----------
        n_outputs : int
            New number of classes. Class names are kept if there are as many.
        """
        self._set_n_outputs(n_outputs)
        if self.class_names is not None and len(self.class_names) != n_outputs:
            self.class_names = None
            self._record(class_names=None)
        old = self.final_layer.weight
        self.final_layer = fresh_head(old.shape[1], n_outputs).to(old)

    @classmethod
    def from_braindecode(
        cls,
        labram: nn.Module | Mapping[str, Tensor],
        *,
        ch_names: Sequence[str],
        n_times: int | None = None,
        sfreq: float = 200,
        n_outputs: int | None = None,
        num_heads: int = 10,
        **options: Any,
    ) -> Self:
        """Build the model from Braindecode's ``Labram``.

        Parameters
        ----------
        labram : braindecode.models.Labram | mapping of str to Tensor
            The model, or its state dict.
        ch_names : sequence of str
            Channels of the signal, of those that Braindecode knows.
        n_times : int | None
            Samples in a window; ``None``: as many as the temporal embedding allows. Longer windows cannot be used.
        sfreq : float
            Sampling rate in Hz.
        n_outputs : int | None
            As in :meth:`from_official`.
        num_heads : int
            Number of attention heads, if a state dict without query norm is given.
        **options : Any
            Further arguments of the class.

        Returns
        -------
        model : LabramForClassification
            In training mode. It takes microvolts and divides by ``input_scale`` (100); Braindecode's model does not
            scale, so for the same output that one must be given the divided signal.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown (e.g. of a learned patcher), of a wrong shape or not finite.
        """
        state_dict: Any = labram
        if isinstance(labram, nn.Module):
            if not isinstance(labram, Labram):
                raise TypeError(f"Expected Braindecode's Labram or its state dict, got {type(labram).__name__}.")
            state_dict = labram.state_dict()
            read = braindecode_arguments(labram)
            num_heads = read.pop("num_heads")
            options = {**read, **options}
        state = braindecode_to_official(state_dict)
        if n_times is None and "time_embed" in state:
            n_times = state["time_embed"].shape[1] * int(options.get("patch_size", 200))
        return cls.from_official(
            state, ch_names=ch_names, n_times=n_times, sfreq=sfreq, n_outputs=n_outputs, num_heads=num_heads, **options
        )

    def to_braindecode(self, *, n_times: int | None = None, fold_input_scale: bool = False) -> Labram:
        """Build Braindecode's ``Labram`` with these weights.

        Parameters
        ----------
        n_times : int | None
            Samples in a window, which upstream is fixed; ``None``: the ``n_times`` of this model.
        fold_input_scale : bool
            Divide the first convolution by ``input_scale``, so that the result takes microvolts as this model does.
            Otherwise weights are unchanged, and it must be given the signal divided by ``input_scale``.

        Returns
        -------
        labram : braindecode.models.Labram
            ``labram(x / model.input_scale, ch_names=model.ch_names)`` equals ``model(x)`` to float precision.

        Raises
        ------
        ValueError
            If this model has what Braindecode's has not: coordinates, the spectrum, a width that the convolution does
            not give.
        """
        return build_braindecode(self, n_times=n_times, fold_input_scale=fold_input_scale)

    @classmethod
    def from_encoder(cls, model: nn.Module, *, n_outputs: int | None = None, **options: Any) -> Self:
        """Put a fresh head onto the encoder of another of our LaBraM models.

        Parameters
        ----------
        model : LabramForMaskedModeling | LabramTokenizer | LabramForClassification
            The pre-trained model; its weights are copied.
        n_outputs : int | None
            Number of classes.
        **options : Any
            Further arguments of the class; those that shape the encoder are the model's.

        Returns
        -------
        model : LabramForClassification
            In training mode, on the device of the other.

        Raises
        ------
        TypeError
            If the model is none of these.
        ValueError
            If an option makes another encoder of it.
        """
        if not isinstance(getattr(model, "encoder", None), LabramTransformer):
            raise TypeError(
                f"LabramForClassification takes the encoder of one of our LaBraM models, got a {type(model).__name__}."
            )
        return around_encoder(cls, model, n_outputs=n_outputs, **options)

    @property
    def mapping(self) -> dict[str, str]:
        """Names that the authors and Braindecode have for our tensors; read by ``load_state_dict``."""
        return name_mapping(self)
