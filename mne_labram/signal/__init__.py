"""What a model may be fed: units, channel names, reference, band, rate, gaps (numpy, scipy and MNE; no torch).

The two functions users call, :func:`mne_labram.conform` and :func:`mne_labram.check`, are exported by the package
itself: here their names belong to the modules that define them.
"""

from mne_labram.signal.blocks import Block, ConformPlan
from mne_labram.signal.channels import ChannelMap, map_channels, parse_channel_name, vocabulary_rows
from mne_labram.signal.check import CheckReport
from mne_labram.signal.conform import conform_array, conform_epochs_array, open_recording, plan_conform
from mne_labram.signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from mne_labram.signal.positions import electrode_positions
from mne_labram.signal.quality import QualityThresholds
from mne_labram.signal.report import ConformReport
from mne_labram.signal.store import ConformedStore, RecordingStore, WindowTable
from mne_labram.signal.vocabulary import DOUBLE_BANANA, LABRAM_CHANNELS

__all__ = [
    "DOUBLE_BANANA",
    "LABRAM_CHANNELS",
    "LABRAM_CONTRACT",
    "Block",
    "ChannelMap",
    "CheckReport",
    "ConformPlan",
    "ConformReport",
    "ConformedStore",
    "ContractError",
    "QualityThresholds",
    "RecordingStore",
    "SignalContract",
    "WindowTable",
    "conform_array",
    "conform_epochs_array",
    "electrode_positions",
    "map_channels",
    "open_recording",
    "parse_channel_name",
    "plan_conform",
    "vocabulary_rows",
]
