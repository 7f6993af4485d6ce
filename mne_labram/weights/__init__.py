"""Checkpoints: one safetensors file each, loaded strictly; official pickles are converted without being run."""

from mne_labram.weights.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
from mne_labram.weights.convert import convert_official
from mne_labram.weights.official import read_official_checkpoint

__all__ = [
    "convert_official",
    "describe_checkpoint",
    "load_checkpoint",
    "read_official_checkpoint",
    "save_checkpoint",
]
