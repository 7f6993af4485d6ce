"""Names of seizures."""

from __future__ import annotations

import pytest

from mne_labram.seizure.event_types import (
    EVENT_TYPES,
    TUSZ_TYPES,
    hed,
    is_a,
    is_seizure,
    known_type,
    parent_type,
)


def test_the_levels_are_those_of_szcore() -> None:
    assert len(EVENT_TYPES) == len(set(EVENT_TYPES)) == 71
    counts = {
        start: sum(name == start or name.startswith(f"{start}_") for name in EVENT_TYPES)
        for start in ("sz", "sz_foc_a", "sz_foc_ia", "sz_foc_ua", "sz_gen", "sz_uo")
    }
    assert counts == {"sz": 70, "sz_foc_a": 16, "sz_foc_ia": 16, "sz_foc_ua": 15, "sz_gen": 14, "sz_uo": 6}
    # The ones that are easily misspelled, and the ones that do not exist.
    assert {"sz_foc_ia_m_automatisms", "sz_foc_f2b", "sz_gen_nm_eyelidMyio", "sz_gen_m_myoTC"} <= set(EVENT_TYPES)
    assert not {"sz_foc_ua", "sz_gen_m_myoclonic", "seizure", "impd"} & set(EVENT_TYPES)
    assert all(name == "bckg" or name.startswith("sz") for name in EVENT_TYPES)


def test_tusz_labels_are_levels() -> None:
    assert list(TUSZ_TYPES) == "FNSZ GNSZ SPSZ CPSZ ABSZ TNSZ CNSZ TCSZ ATSZ MYSZ".split()
    assert set(TUSZ_TYPES.values()) <= set(EVENT_TYPES)
    assert len(set(TUSZ_TYPES.values())) == 10
    assert TUSZ_TYPES["CPSZ"] == "sz_foc_ia"


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("sz_foc_ia", "sz_foc_ia"),
        ("sz-foc-ia", "sz_foc_ia"),
        (" SZ_GEN_M_TONICCLONIC ", "sz_gen_m_tonicClonic"),
        ("cpsz", "sz_foc_ia"),
        ("SEIZ", "sz"),
        ("Seizure", "sz"),
        ("BCKG", "bckg"),
        ("seizures", None),
        ("pre-seizure", None),
        ("sz_foc_ua", None),
        ("", None),
    ],
)
def test_other_spellings(name: str, event_type: str | None) -> None:
    assert known_type(name) == event_type


def test_every_level_has_tags_and_a_way_up() -> None:
    for name in EVENT_TYPES:
        assert hed(name)
        assert is_a(name, name)
        assert is_seizure(name) == is_a(name, "sz") == (name != "bckg")
        parent = parent_type(name)
        assert (parent is None) == (name in ("sz", "bckg"))
        if parent is not None:
            assert is_a(name, parent)
            assert not is_a(parent, name)


def test_hierarchy_and_tags_by_hand() -> None:
    assert is_a("sz_foc_ia", "sz_foc")
    assert is_a("sz_foc_ia_m_tonic", "sz_foc_ia")
    assert not is_a("sz_foc_ia", "sz_foc_a")
    assert not is_a("sz_gen", "sz_foc")
    assert parent_type("sz_foc_ua_m") == "sz_foc"
    assert parent_type("sz_gen_m_tonicClonic") == "sz_gen_m"
    assert hed("sz_foc_a_m_spasms") == "Aware-focal-onset-epileptic-seizure, Epileptic-spasm-episode"
    assert hed("sz_gen") == "Generalized-onset-epileptic-seizure"
    assert hed("sz_uo_m") == "Unknown-onset-epileptic-seizure"
    assert hed("bckg") == "Continuous-background-activity"


@pytest.mark.parametrize("call", [hed, is_seizure, parent_type, lambda name: is_a("sz", name)])
def test_unknown_names_are_refused_with_the_right_one(call) -> None:
    with pytest.raises(ValueError, match=r"'sz-foc' is none of SzCORE's event types; write 'sz_foc'\."):
        call("sz-foc")
    with pytest.raises(ValueError, match=r"EVENT_TYPES\."):
        call("spike")
