"""What a user should know of weights before using them, as a card (JSON) and as a page made of it (Markdown).

A card is a dict of plain JSON values:

``name``, ``summary``
    What the weights are called, and one sentence.
``class``, ``n_parameters``, ``n_bytes``, ``sha256``, ``contract``, ``versions``
    What the checkpoint says of itself.
``licence``
    Of the weights.
``data``
    One dict per data set: ``name``, ``licence``, ``cite``, ``subjects`` and ``hours`` that were trained on, and
    ``held_out``, who was not. None where everything was simulated.
``hours``, ``steps``, ``seed``, ``command``
    The training; hours of recordings, or of what was simulated.
``measurements``
    Title of a table to its rows, each a dict of column to value; a text instead of rows is a paragraph.
``limits``
    Sentences on what the weights should not be used for, and what is not known of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["check_card", "card_page"]

_KEYS = (
    "name",
    "summary",
    "class",
    "n_parameters",
    "n_bytes",
    "sha256",
    "contract",
    "versions",
    "licence",
    "data",
    "hours",
    "steps",
    "seed",
    "command",
    "measurements",
    "limits",
)
_DATA_KEYS = ("name", "licence", "cite", "subjects", "hours", "held_out")


def check_card(card: Any, name: str) -> None:
    """Refuse a card that does not say all that it should.

    Parameters
    ----------
    card : dict
        The card.
    name : str
        What the weights are called.

    Raises
    ------
    ValueError
        If something is missing, or the card is that of other weights.
    """
    if not isinstance(card, Mapping):
        raise ValueError(f"The card of {name!r} must be a dict, got {type(card).__name__}.")
    missing = [key for key in _KEYS if key not in card]
    if missing:
        raise ValueError(f"The card of {name!r} does not say: {', '.join(missing)}.")
    if card["name"] != name:
        raise ValueError(f"The card of {name!r} is that of {card['name']!r}.")
    for row in card["data"]:
        missing = [key for key in _DATA_KEYS if key not in row]
        if missing:
            raise ValueError(f"The card of {name!r} does not say of its data: {', '.join(missing)}.")


def card_page(card: Mapping[str, Any]) -> str:
    """Turn a card into a page.

    Parameters
    ----------
    card : dict
        From :func:`mne_labram.weights.pretrained_card`.

    Returns
    -------
    page : str
        Markdown. The pages of the documentation are this and nothing else (``mne-labram info NAME`` prints it).
    """
    versions = ", ".join(f"{key} {value}" for key, value in sorted(card["versions"].items()))
    lines = [f"# {card['name']}", "", card["summary"], ""]
    lines += [
        f"A `{card['class']}` of {card['n_parameters']:,} parameters ({card['n_bytes'] / 1e6:.1f} MB), under the "
        f"licence {card['licence']}. SHA-256 `{card['sha256']}`.",
        "",
        "## Signal",
        "",
        *_table([{"contract": key, "value": value} for key, value in card["contract"].items()]),
        "",
        "## Training",
        "",
        f"{_text(card['hours'])} hours of {'recordings' if card['data'] else 'simulated signal, and no recordings'}, "
        f"{_text(card['steps'])} steps, seed {card['seed']}; {versions}.",
        "",
        "```bash",
        card["command"],
        "```",
        "",
    ]
    if card["data"]:
        lines += [
            *_table([{key.replace("_", " "): row[key] for key in _DATA_KEYS if key != "cite"} for row in card["data"]]),
            "",
            "Data sets to be named wherever the weights are published:",
            "",
            *(f"- {row['name']}: {row['cite']}" for row in card["data"]),
            "",
        ]
    lines += ["## Measured"]
    for title, rows in card["measurements"].items():
        lines += ["", f"### {title}", "", *([rows] if isinstance(rows, str) else _table(rows))]
    lines += ["", "## Limits", "", *(f"- {sentence}" for sentence in card["limits"])]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay rows out as a Markdown table; columns are those of all rows, in the order they come up."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return ["Nothing."]
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    """Write a value for a reader: four digits, lists without brackets, nothing as a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    return str(value).replace("|", "\\|")
