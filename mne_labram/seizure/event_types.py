"""The names of seizures: SzCORE's event types, TUSZ's labels, and the HED-SCORE tags of both.

SzCORE writes them with underscores in its files (``sz_foc_ia_m``) and with hyphens on its pages; only the underscores
load in its tools. The list, the HED tags and the way from TUSZ are facts of the project's own ``events.json`` and
``load_annotations/tuh.py`` (github.com/esl-epfl/epilepsy2bids).
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = [
    "BACKGROUND",
    "EVENT_TYPES",
    "TUSZ_TYPES",
    "hed",
    "is_a",
    "is_seizure",
    "known_type",
    "parent_type",
]

#: What SzCORE calls a stretch without a seizure.
BACKGROUND = "bckg"

# What a focal seizure is seen by; the tag that HED-SCORE has for each.
_FOCAL_MOTOR = {
    "automatisms": "Automatism-motor-seizure",
    "atonic": "Atonic-motor-seizure",
    "clonic": "Clonic-motor-seizure",
    "spasms": "Epileptic-spasm-episode",
    "hyperkinetic": "Hyperkinetic-motor-seizure",
    "myoclonic": "Myoclonic-motor-seizure",
    "tonic": "Tonic-motor-seizure",
}
_FOCAL_NON_MOTOR = {
    "autonomic": "Autonomic-nonmotor-seizure",
    "behavior": "Behavior-arrest-nonmotor-seizure",
    "cognitive": "Cognitive-nonmotor-seizure",
    "emotional": "Emotional-nonmotor-seizure",
    "sensory": "Sensory-nonmotor-seizure",
}
_AWARENESS = {
    "a": "Aware-focal-onset-epileptic-seizure",
    "ia": "Impaired-awareness-focal-onset-epileptic-seizure, Episode-consciousness-affected",
    "ua": "Awareness-unknown-focal-onset-epileptic-seizure",
}
_GENERALIZED = {
    "m": "Motor-seizure",
    "m_tonicClonic": "Tonic-clonic-motor-seizure",
    "m_clonic": "Clonic-motor-seizure",
    "m_tonic": "Tonic-motor-seizure",
    "m_myoTC": "Myoclonic-tonic-clonic-motor-seizure",
    "m_myoAtonic": "Myoclonic-atonic-motor-seizure",
    "m_atonic": "Atonic-motor-seizure",
    "m_spasms": "Epileptic-spasm-episode",
    "nm": "Absence-seizure",
    "nm_typical": "Typical-absence-seizure",
    "nm_atypical": "Atypical-absence-seizure",
    "nm_myoclonic": "Myoclonic-absence-seizure",
    "nm_eyelidMyio": "Eyelid-myoclonia-absence-seizure",
}
_UNKNOWN_ONSET = {
    # SzCORE gives "uo_m" the tag of "uo" alone.
    "m": "",
    "m_tonicClonic": "Tonic-clonic-motor-seizure",
    "m_spasms": "Epileptic-spasm-episode",
    "nm": "Nonmotor-seizure",
    "nm_behavior": "Behavior-arrest-nonmotor-seizure",
}


def _tags() -> dict[str, str]:
    """Return the HED tags of every level, in SzCORE's order."""
    tags = {
        BACKGROUND: "Continuous-background-activity",
        "sz": "Unclassified-epileptic-seizure",
        "sz_foc": _AWARENESS["ua"],
    }
    for short, awareness in _AWARENESS.items():
        base = f"sz_foc_{short}"
        # Unknown awareness without anything else is "sz_foc": there is no level "sz_foc_ua".
        if short != "ua":
            tags[base] = awareness
        tags[f"{base}_m"] = f"{awareness}, Motor-seizure"
        tags |= {f"{base}_m_{sign}": f"{awareness}, {tag}" for sign, tag in _FOCAL_MOTOR.items()}
        tags[f"{base}_nm"] = f"{awareness}, Nonmotor-seizure"
        tags |= {f"{base}_nm_{sign}": f"{awareness}, {tag}" for sign, tag in _FOCAL_NON_MOTOR.items()}
        tags[f"{base}_um"] = awareness
    tags["sz_foc_f2b"] = "Focal-to-bilateral-tonic-clonic-focal-onset-epileptic-seizure, Tonic-clonic-motor-seizure"
    for base, onset, signs in (
        ("sz_gen", "Generalized-onset-epileptic-seizure", _GENERALIZED),
        ("sz_uo", "Unknown-onset-epileptic-seizure", _UNKNOWN_ONSET),
    ):
        tags[base] = onset
        tags |= {f"{base}_{sign}": ", ".join(filter(None, (onset, tag))) for sign, tag in signs.items()}
    return tags


_HED = _tags()

#: The 71 levels of SzCORE's ``eventType``, background first.
EVENT_TYPES: tuple[str, ...] = tuple(_HED)

#: The seizure types of the Temple University Hospital Seizure Corpus, as SzCORE translates them. MYSZ becomes a
#: myoclonic *absence*: SzCORE has no level for a generalized seizure that is myoclonic and no absence.
TUSZ_TYPES = MappingProxyType(
    {
        "FNSZ": "sz_foc",
        "GNSZ": "sz_gen",
        "SPSZ": "sz_foc_a",
        "CPSZ": "sz_foc_ia",
        "ABSZ": "sz_gen_nm",
        "TNSZ": "sz_gen_m_tonic",
        "CNSZ": "sz_gen_m_clonic",
        "TCSZ": "sz_gen_m_tonicClonic",
        "ATSZ": "sz_gen_m_atonic",
        "MYSZ": "sz_gen_nm_myoclonic",
    }
)

_SPELLINGS = {name.casefold(): name for name in EVENT_TYPES}
_SPELLINGS |= {name.casefold(): event_type for name, event_type in TUSZ_TYPES.items()}
# "SEIZ" is what TUSZ's binary files (.csv_bi) call any seizure.
_SPELLINGS |= {"seiz": "sz", "seizure": "sz", "background": BACKGROUND}


def known_type(name: str) -> str | None:
    """Return SzCORE's name of what someone called a seizure, or of background.

    Parameters
    ----------
    name : str
        A level with underscores or hyphens, a label of TUSZ, ``"seizure"`` or ``"background"``; the case does not
        matter.

    Returns
    -------
    event_type : str | None
        One of :data:`EVENT_TYPES`; ``None``: the name is none of these.
    """
    return _SPELLINGS.get(name.strip().casefold().replace("-", "_"))


def _checked(event_type: str) -> str:
    if event_type not in _HED:
        guess = known_type(event_type)
        hint = f"write {guess!r}" if guess else "see mne_labram.seizure.event_types.EVENT_TYPES"
        raise ValueError(f"{event_type!r} is none of SzCORE's event types; {hint}.")
    return event_type


def is_seizure(event_type: str) -> bool:
    """Tell a seizure from background.

    Parameters
    ----------
    event_type : str
        One of :data:`EVENT_TYPES`.

    Returns
    -------
    seizure : bool
        False for ``"bckg"`` only.

    Raises
    ------
    ValueError
        If the type is none of :data:`EVENT_TYPES`.
    """
    return _checked(event_type) != BACKGROUND


def hed(event_type: str) -> str:
    """Return the HED-SCORE tags of a type.

    Parameters
    ----------
    event_type : str
        One of :data:`EVENT_TYPES`.

    Returns
    -------
    tags : str
        Tags of HED-SCORE 1, separated by comma and space, as SzCORE's ``events.json`` has them.

    Raises
    ------
    ValueError
        If the type is none of :data:`EVENT_TYPES`.
    """
    return _HED[_checked(event_type)]


def parent_type(event_type: str) -> str | None:
    """Return the next more general level.

    Parameters
    ----------
    event_type : str
        One of :data:`EVENT_TYPES`.

    Returns
    -------
    parent : str | None
        ``"sz_foc"`` of ``"sz_foc_ia"``, and of ``"sz_foc_ua_m"`` since there is no level between them; ``None`` of
        ``"sz"`` and ``"bckg"``.

    Raises
    ------
    ValueError
        If the type is none of :data:`EVENT_TYPES`.
    """
    name = _checked(event_type)
    while "_" in name:
        name = name.rpartition("_")[0]
        if name in _HED:
            return name
    return None


def is_a(event_type: str, general: str) -> bool:
    """Tell whether a type is another one or a special case of it.

    Parameters
    ----------
    event_type : str
        One of :data:`EVENT_TYPES`.
    general : str
        One of :data:`EVENT_TYPES`.

    Returns
    -------
    answer : bool
        ``is_a("sz_foc_ia", "sz_foc")`` and ``is_a("sz_foc_ia", "sz")`` are true.

    Raises
    ------
    ValueError
        If a type is none of :data:`EVENT_TYPES`.
    """
    level: str | None = _checked(event_type)
    _checked(general)
    while level is not None and level != general:
        level = parent_type(level)
    return level == general
