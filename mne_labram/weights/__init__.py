"""Checkpoints: one safetensors file each, loaded strictly; official pickles are converted without being run."""

from mne_labram.weights.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
from mne_labram.weights.convert import convert_official
from mne_labram.weights.official import read_official_checkpoint
from mne_labram.weights.pretrained import list_pretrained, load_model, load_pretrained, pretrained_card, ship_weights

__all__ = [
    "convert_official",
    "describe_checkpoint",
    "list_pretrained",
    "load_checkpoint",
    "load_model",
    "load_pretrained",
    "pretrained_card",
    "read_official_checkpoint",
    "save_checkpoint",
    "ship_weights",
]
