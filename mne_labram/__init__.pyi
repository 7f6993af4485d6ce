# What `import mne_labram` offers; read at run time too (mne_labram/__init__.py), so that a name costs its import
# only when it is used.
from .codec.compression import braincodec_compress, braincodec_decompress
from .decoding.embedding import EEGEmbedding
from .decoding.tokenizer import EEGTokenizer
from .models.braincodec import BrainCodec, BrainCodecForSeizure
from .models.brainforge import BrainForge
from .models.deepsif import DeepSIF
from .models.eegfoundation import (
    AmplitudeTokenizer,
    EEGFoundationForClassification,
    EEGFoundationForMaskedModeling,
)
from .models.eegfoundation.compatibility import load_downstream_model
from .models.gram import GramForClassification, GramForRestoration, GramTokenizer
from .models.labram import LabramForClassification, LabramForMaskedModeling, LabramTokenizer
from .models.neurostorm import NeuroStorm
from .pipe import pipe
from .restoration.estimator import EEGRestorer
from .restoration.figure import plot_restoration
from .restoration.restore import gram_restore
from .seizure.bids import read_raw_szcore_bids
from .seizure.detection import SeizureDetection, detect_seizures
from .seizure.evaluation import leave_one_subject_out
from .seizure.events import EventTable, SeizureEvent
from .seizure.labels import second_labels
from .seizure.scoring import score
from .seizure.szcore import read_szcore_tsv, write_szcore_tsv
from .signal.check import check
from .signal.conform import conform
from .signal.contract import LABRAM_CONTRACT, ContractError, SignalContract
from .signal.store import RecordingStore
from .source.figure import plot_sources
from .source.inverse import BrainForgeInverse
from .training.finetune import finetuned_model, finetuner
from .verbs import annotate_events, brainforge_localize, labram_annotate, labram_embed, labram_tokenize
from .weights import list_pretrained, load_checkpoint, load_pretrained, pretrained_card, save_checkpoint

__all__ = [
    "LABRAM_CONTRACT",
    "AmplitudeTokenizer",
    "BrainCodec",
    "BrainCodecForSeizure",
    "BrainForge",
    "BrainForgeInverse",
    "ContractError",
    "DeepSIF",
    "EEGEmbedding",
    "EEGFoundationForClassification",
    "EEGFoundationForMaskedModeling",
    "EEGRestorer",
    "EEGTokenizer",
    "EventTable",
    "GramForClassification",
    "GramForRestoration",
    "GramTokenizer",
    "LabramForClassification",
    "LabramForMaskedModeling",
    "LabramTokenizer",
    "NeuroStorm",
    "RecordingStore",
    "SeizureDetection",
    "SeizureEvent",
    "SignalContract",
    "annotate_events",
    "braincodec_compress",
    "braincodec_decompress",
    "brainforge_localize",
    "check",
    "conform",
    "detect_seizures",
    "finetuned_model",
    "finetuner",
    "gram_restore",
    "labram_annotate",
    "labram_embed",
    "labram_tokenize",
    "leave_one_subject_out",
    "list_pretrained",
    "load_checkpoint",
    "load_downstream_model",
    "load_pretrained",
    "pipe",
    "plot_restoration",
    "plot_sources",
    "pretrained_card",
    "read_raw_szcore_bids",
    "read_szcore_tsv",
    "save_checkpoint",
    "score",
    "second_labels",
    "write_szcore_tsv",
]

__version__: str
