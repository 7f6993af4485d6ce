"""The channel names a checkpoint knows, in the order of its embedding rows.

A vocabulary is data, not behaviour: how a recording's own labels are parsed and matched to it is in
:mod:`mne_labram.signal.channels`.
"""

from __future__ import annotations

__all__ = [
    "CHANNEL_ALIASES",
    "DOUBLE_BANANA",
    "GRAM_CHANNELS",
    "LABRAM_CHANNELS",
    "LABRAM_N_ROWS",
    "TEN_TWENTY",
    "VOCABULARIES",
]

# 114 electrodes: positions 0-113 of ``standard_1020`` in the official code (LaBraM, utils.py).
_ELECTRODES = """
FP1 FPZ FP2
AF9 AF7 AF5 AF3 AF1 AFZ AF2 AF4 AF6 AF8 AF10
F9 F7 F5 F3 F1 FZ F2 F4 F6 F8 F10
FT9 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 FT10
T9 T7 C5 C3 C1 CZ C2 C4 C6 T8 T10
TP9 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 TP10
P9 P7 P5 P3 P1 PZ P2 P4 P6 P8 P10
PO9 PO7 PO5 PO3 PO1 POZ PO2 PO4 PO6 PO8 PO10
O1 OZ O2 O9 CB1 CB2 IZ O10
T3 T5 T4 T6 M1 M2 A1 A2
CFC1 CFC2 CFC3 CFC4 CFC5 CFC6 CFC7 CFC8
CCP1 CCP2 CCP3 CCP4 CCP5 CCP6 CCP7 CCP8
T1 T2
""".split()

# The six mixed-case names of the official list (positions 114-119).
_HALF_STEPS = ["FTT9h", "TTP7h", "TPP9h", "FTT10h", "TPP8h", "TPP10h"]

_TEMPORAL_CHAIN = ["FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP2-F8", "F8-T8", "T8-P8", "P8-O2"]
_PARASAGITTAL_CHAIN = ["FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2"]

#: The 136 names of the official list, in order. Row ``i + 1`` of ``pos_embed`` belongs to name ``i``; row 0 is CLS.
LABRAM_CHANNELS: tuple[str, ...] = (*_ELECTRODES, *_HALF_STEPS, *_TEMPORAL_CHAIN, *_PARASAGITTAL_CHAIN)

#: ``pos_embed`` has 129 rows (CLS + 128), so the last eight names, the parasagittal bipolar pairs, have none.
LABRAM_N_ROWS: int = 128

#: Gram's list is LaBraM's without the six mixed-case names (Gram, utils: all_ch_list): 114 electrodes and 16 pairs, all
#: of which have a row.
GRAM_CHANNELS: tuple[str, ...] = (*_ELECTRODES, *_TEMPORAL_CHAIN, *_PARASAGITTAL_CHAIN)

#: Names that have an embedding row, in the order of the rows, which begin with 1: row 0 is CLS.
VOCABULARIES: dict[str, tuple[str, ...]] = {"labram": LABRAM_CHANNELS[:LABRAM_N_ROWS], "gram": GRAM_CHANNELS}

#: Old and new 10-20 names of the same electrode. Used only when the exact name has no row (or no position).
CHANNEL_ALIASES: dict[str, str] = {
    "T3": "T7",
    "T4": "T8",
    "T5": "P7",
    "T6": "P8",
    "T7": "T3",
    "T8": "T4",
    "P7": "T5",
    "P8": "T6",
}

#: The 18 derivations of the longitudinal bipolar montage ("double banana").
DOUBLE_BANANA: tuple[str, ...] = (*_TEMPORAL_CHAIN, *_PARASAGITTAL_CHAIN, "FZ-CZ", "CZ-PZ")

#: The 19 scalp electrodes of the 10-20 system, under their new names.
TEN_TWENTY: tuple[str, ...] = tuple("FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2".split())
