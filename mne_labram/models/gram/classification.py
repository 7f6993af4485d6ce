"""Gram with a classification head."""

from __future__ import annotations

from typing import Any, Self

from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from mne_labram.models.gram.base import GramMixin
from mne_labram.models.gram.official import official_classification
from mne_labram.models.gram.sizes import default_out_indices, resolve_gram_size
from mne_labram.models.labram.inputs import with_arrays
from mne_labram.models.labram.transfer import around_encoder
from mne_labram.nn.initialization import fresh_head

__all__ = ["GramForClassification"]


class GramForClassification(GramMixin, EEGModuleMixin, nn.Module):
    r"""Gram for classification, from Li et al. (2025) [gram]_.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer`

    The encoder of :class:`GramForRestoration` sees all patches; the CLS token is classified, after the outputs of
    several blocks were fused and normalised. With the default options and official weights it is the official
    fine-tuned ``Gram`` (model/modeling_Gram_finetune.py). Unlike it, the model takes microvolts and knows its channels
    from the moment it is built.

    Parameters
    ----------
    n_outputs : int | None
        Number of classes; ``None`` takes the number of ``class_names``.
    n_chans : int | None
        Number of channels; only checked against the names.
    chs_info : list of dict | None
        ``info["chs"]``: the channels, if ``ch_names`` is None.
    n_times : int | None
        Samples in a window. The model takes any number of whole patches up to its longest window, whatever this is.
    input_window_seconds : float | None
        Length of a window in seconds.
    sfreq : float | None
        Sampling rate in Hz; must be 200 if given.
    ch_names : list of str | None
        Channels, in the order of the input, parsed as labels of a recording are. With ``EEGClassifier`` on plain
        arrays: ``module__ch_names=[...]``.
    size : {"base", "medium", "large", "small"}
        Configuration: Gram-B (6.0 million parameters), -M (47.2 million), -L (251 million), or ours for small machines
        (0.8 million); see :class:`GramForRestoration`.
    embed_dim, num_layers, num_heads : int | None
        Replace a number of the configuration.
    out_indices : list of int | None
        Blocks whose outputs are fused, the last among them; ``None``: those of the published sizes, or by their rule.
    pooling : {"cls", "mean"}
        What is classified: the CLS token, as officially, or the mean over patch tokens.
    spatial : {"names", "coordinates"}
        ``"names"``: sines and cosines of the place in the official list of 130 names. ``"coordinates"``: a function of
        electrode positions, of both ends for a bipolar channel (ours), which knows every montage.
    ch_positions : list of list of float | None
        Positions in metres, (n_chans, 3) or (n_chans, 6), instead of those of the names; ``"coordinates"`` only.
    input_scale : float
        Microvolts per unit inside; officially 100.
    patch_embed : {"conv", "conv+spectrum", "conv+periodogram"}
        See :class:`mne_labram.nn.patch_embedding.PatchEmbedding`.
    patch_size : int
        Samples in a patch; official weights need 200.
    max_patches : int
        Rows of the temporal embedding: longest window in patches.
    max_tokens : int | None
        Most patches of all channels in a window; ``None``: 256 for ``spatial="names"``, as officially, and without
        limit for coordinates.
    layer_scale : float | None
        Initial residual gain; ``None`` takes the configuration's, 0 has none.
    drop_prob, attn_drop_prob, drop_path_prob : float
        Dropout of branch outputs, of attention weights, and of whole branches (in the last block).
    activation : type of nn.Module
        Class of the activation in convolutions and feed-forward layers.
    class_names : list of str | None
        Names of the outputs; kept for those who write annotations.
    contract : SignalContract | dict | None
        How the signal was prepared, where it differs from the official preparation.

    Raises
    ------
    ValueError
        If no channel names are known, a name is not in the list, the window is not made of whole patches or too long,
        the sampling rate is not 200 Hz, or an option has a value that is not listed.

    References
    ----------
    .. [gram] Li, Z., Zheng, W. L., & Lu, B. L. (2025). Gram: A Large-Scale General EEG Model for Raw Data
       Classification and Restoration Tasks. https://github.com/iiieeeve/Gram

    Examples
    --------
    >>> import torch
    >>> from mne_labram.models.gram import GramForClassification
    >>> model = GramForClassification(n_outputs=2, ch_names=["Fp1", "Fp2", "Cz"], n_times=800, size="small")
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
        out_indices: list[int] | None = None,
        pooling: str = "cls",
        spatial: str = "names",
        ch_positions: list[list[float]] | None = None,
        input_scale: float = 100.0,
        patch_embed: str = "conv",
        patch_size: int = 200,
        max_patches: int = 16,
        max_tokens: int | None = None,
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
            max_tokens=max_tokens,
            input_scale=input_scale,
            contract=contract,
        )
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be 'mean' or 'cls', got {pooling!r}.")
        if class_names is not None and len(class_names) != self.n_outputs:
            raise ValueError(f"There are {len(class_names)} class names for n_outputs={self.n_outputs}.")
        self.class_names = None if class_names is None else list(class_names)
        self.pooling = pooling
        numbers = resolve_gram_size(size, embed_dim=embed_dim, num_layers=num_layers, num_heads=num_heads).encoder
        if out_indices is None:
            out_indices = default_out_indices(numbers.num_layers)
        self.encoder = self._build_encoder(
            binding,
            numbers,
            patch_embed=patch_embed,
            out_indices=out_indices,
            layer_scale=numbers.layer_scale if layer_scale is None else layer_scale,
            drop_prob=drop_prob,
            attn_drop_prob=attn_drop_prob,
            drop_path_prob=drop_path_prob,
            activation=activation,
        )
        self._record(out_indices=list(out_indices))
        self.final_layer = fresh_head(numbers.embed_dim, self.n_outputs)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | dict[str, Tensor]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Signal in microvolts at 200 Hz; whole patches, up to the longest window.
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

    @property
    def classifier_class(self) -> type[Self]:
        """What the encoder becomes when it is fine-tuned."""
        return type(self)

    @classmethod
    def from_encoder(cls, model: nn.Module, *, n_outputs: int | None = None, **options: Any) -> Self:
        """Put a fresh head onto the encoder of another of our Gram models.

        Parameters
        ----------
        model : GramForRestoration | GramForClassification
            The pre-trained model; its weights are copied.
        n_outputs : int | None
            Number of classes.
        **options : Any
            Further arguments of the class; those that shape the encoder are the model's.

        Returns
        -------
        model : GramForClassification
            In training mode, on the device of the other.

        Raises
        ------
        TypeError
            If the model is no Gram with a CLS token, such as the tokenizer or another system's.
        ValueError
            If an option makes another encoder of it.
        """
        if not isinstance(model, GramMixin) or model.encoder.cls_token is None:
            raise TypeError(
                f"GramForClassification takes the encoder of a GramForRestoration or GramForClassification, got a "
                f"{type(model).__name__}."
            )
        return around_encoder(cls, model, n_outputs=n_outputs, **options)
