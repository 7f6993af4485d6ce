"""Channel labels are read by whole tokens."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.labels import ParsedChannel, parse_channel_name
from mne_labram.signal.template import template_positions
from mne_labram.signal.vocabulary import LABRAM_CHANNELS

ELECTRODES = [name for name in LABRAM_CHANNELS if "-" not in name]


@pytest.mark.parametrize(
    ("label", "name", "reference"),
    [
        ("Fp1", "FP1", None),
        ("FP1", "FP1", None),
        (" fp1 ", "FP1", None),
        ("Fp1.", "FP1", None),
        ("Fc5.", "FC5", None),
        ("T10.", "T10", None),
        ("C3..", "C3", None),
        ("EEG Fp1", "FP1", None),
        ("EEG Fp1-REF", "FP1", "REF"),
        ("EEG Fp2-Ref", "FP2", "REF"),
        ("EEG FP1-LE", "FP1", "LE"),
        ("EEG  FP1 - REF", "FP1", "REF"),
        ("EEG_Fp1_REF", "FP1", "REF"),
        ("EEG:Fp1", "FP1", None),
        ("POL Fp1", "FP1", None),
        ("Fp1-Avg", "FP1", "AVG"),
        ("Fp1-AV", "FP1", "AVG"),
        ("Fp1-AR", "FP1", "AR"),
        ("Fp1-A2", "FP1", "A2"),
        ("Fp1-M1", "FP1", "M1"),
        ("C4-A1+A2", "C4", "LE"),
        ("C4-(A1+A2)/2", "C4", "LE"),
        ("C4-A1A2", "C4", "LE"),
        ("C4-(M1+M2)/2", "C4", "LM"),
        ("FP1-CS2", "FP1", "CS2"),
        ("A1-REF", "A1", "REF"),
        ("A1", "A1", None),
        ("M2", "M2", None),
        ("T1", "T1", None),
        ("FT9", "FT9", None),
        ("ftt9H", "FTT9h", None),
        ("01", "O1", None),
        ("EEG 02-REF", "O2", "REF"),
        ("Cz-A1", "CZ", "A1"),
        ("Fp1-0", "FP1", None),
        ("EEG Fp1-REF-1", "FP1", "REF"),
        ("Fp1\u2212A2", "FP1", "A2"),
        ("Fp1 \u2013 F7", "FP1-F7", None),
        ("\uff26\uff50\uff11", "FP1", None),
        ("T8-P8", "T8-P8", None),
        ("T8-P8-0", "T8-P8", None),
        ("T8-P8-12", "T8-P8", None),
        ("P3-01", "P3-O1", None),
        ("P7-T7", "P7-T7", None),
        ("Fz-Cz", "FZ-CZ", None),
        ("EEG F3-C3", "F3-C3", None),
        ("F7-T3", "F7-T3", None),
        ("F7-FP1", "F7-FP1", None),
        ("FT9-FT10", "FT9-FT10", None),
        ("A1-T3", "A1-T3", None),
        ("EEG A2-A1", "A2-A1", None),
    ],
)
def test_labels_of_electrodes(label: str, name: str, reference: str | None):
    parsed = parse_channel_name(label)
    assert parsed.label == label
    assert (parsed.name, parsed.reference) == (name, reference)
    assert parsed.kind == ("electrode" if "-" not in name else "ears" if name == "A2-A1" else "bipolar")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("EKG", "auxiliary"),
        ("ECG ECG", "auxiliary"),
        ("EEG EKG1-REF", "auxiliary"),
        ("EOG", "auxiliary"),
        ("EOG2", "auxiliary"),
        ("EEG ROC-REF", "auxiliary"),
        ("HEOGL", "auxiliary"),
        ("VEOG", "auxiliary"),
        ("Photic", "auxiliary"),
        ("PHOTIC-REF", "auxiliary"),
        ("Resp Effort", "auxiliary"),
        ("Status", "auxiliary"),
        ("DC1", "auxiliary"),
        ("EEG 001", "unknown"),
        ("E12", "unknown"),
        ("A3", "unknown"),
        ("B5", "unknown"),
        ("POL $A1", "unknown"),
        ("POL E", "unknown"),
        ("X1", "unknown"),
        ("-", "unknown"),
        ("--0", "unknown"),
        (".", "unknown"),
        ("", "unknown"),
        ("EEG", "unknown"),
        ("EEG-REF", "unknown"),
        ("REF", "unknown"),
        ("Fp1x", "unknown"),
        ("xFp1", "unknown"),
        ("EEGFp1", "unknown"),
        ("FP1F7", "unknown"),
        ("FP1-F7-T7", "unknown"),
        ("FP1-nonsense", "unknown"),
        ("Cz-Cz", "unknown"),
        ("C3P-REF", "unknown"),
        ("Fp1-007", "unknown"),
        ("A'1", "unknown"),
        ("001", "unknown"),
    ],
)
def test_labels_of_no_electrode(label: str, kind: str):
    parsed = parse_channel_name(label)
    assert parsed.kind == kind
    assert parsed.cathode is None
    assert parsed.reference is None


def test_a_label_must_be_text():
    with pytest.raises(TypeError, match="string, got int"):
        parse_channel_name(3)  # type: ignore[arg-type]


def test_every_known_electrode_is_its_own_name():
    for name in template_positions():
        assert parse_channel_name(name) == ParsedChannel(name, name)


PREFIXES = st.sampled_from(["", "EEG ", "eeg ", "POL ", "EEG_", " ", "EEG:"])
SUFFIXES = st.sampled_from(["", "-REF", "-Ref", " -LE", "-AVG", "_REF", ".", "..", "-0", "-REF-1", "  ", "\u2212REF"])
CASES = st.sampled_from([str, str.upper, str.lower, str.title, str.swapcase])


@given(st.sampled_from(ELECTRODES), PREFIXES, SUFFIXES, CASES)
def test_a_decorated_electrode_is_found(name: str, prefix: str, suffix: str, case):
    parsed = parse_channel_name(prefix + case(name) + suffix)
    assert (parsed.name, parsed.kind) == (name, "electrode")


@given(
    st.sampled_from([name for name in LABRAM_CHANNELS if "-" in name]),
    PREFIXES,
    st.sampled_from(["", "-0", "-1", ".", " "]),
    CASES,
)
def test_a_decorated_derivation_is_found(name: str, prefix: str, suffix: str, case):
    parsed = parse_channel_name(prefix + case(name) + suffix)
    assert (parsed.name, parsed.kind) == (name, "bipolar")


@given(
    st.text(max_size=12)
    | st.text(alphabet="FPCOTAZfpz0123456789-. _/:EGhM", max_size=10)
    | st.lists(st.sampled_from([*ELECTRODES, "EEG", "REF", "-", " ", "0", ".", "POL", "1"]), max_size=5).map("".join)
)
def test_parsing_twice_changes_nothing_and_junk_is_no_electrode(label: str):
    parsed = parse_channel_name(label)
    again = parse_channel_name(parsed.name)
    assert (again.name, again.kind) == (parsed.name, parsed.kind)
    if parsed.kind in ("electrode", "bipolar", "ears"):
        # Whatever is found stands in the label as a whole word.
        words = re.split(r"[^A-Z0-9]+", label.upper())
        words += [{"01": "O1", "02": "O2", "0Z": "OZ"}.get(word, word) for word in words]
        assert {end.upper() for end in (parsed.anode, parsed.cathode) if end} <= set(words)


@given(st.sampled_from(ELECTRODES), st.sampled_from("XYQ37'+#"), st.booleans())
def test_a_longer_word_is_another_word(name: str, extra: str, before: bool):
    label = extra + name if before else name + extra
    parsed = parse_channel_name(label)
    assert parsed.name.upper() == label.upper()
    assert parsed.kind == ("electrode" if label in template_positions() else "unknown")
