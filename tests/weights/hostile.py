"""Pickles that try something, for the tests that show they fail. Each would leave a mark if it were run."""

from __future__ import annotations

import argparse
import builtins
import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import torch


class Shell:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.mark}'",)


class Eval:
    """Runs an expression when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return builtins.eval, (f"open({str(self.mark)!r}, 'w')",)


class Write:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return open, (str(self.mark), "w")


#: Attack and the name that the refusal must give.
ATTACKS = {Shell: "os.system", Eval: "builtins.eval", Write: "io.open"}

#: Where in a training dict the attack sits.
PLACES = {
    "alone": lambda attack: attack,
    "beside the weights": lambda attack: {"model": {"w": torch.zeros(3)}, "epoch": attack},
    "among the weights": lambda attack: {"model": {"w": torch.zeros(3), "v": attack}},
    "in the arguments": lambda attack: {"model": {"w": torch.zeros(3)}, "args": argparse.Namespace(lr=attack)},
    "deep": lambda attack: {"optimizer": {"state": [({"a": [attack]},)]}, "model": {"w": torch.zeros(3)}},
}


def with_attack_after_the_weights(attack: Any) -> bytes:
    """Make a file of the old format whose fifth pickle, the list of storages, carries the attack."""
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    ends = [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    content = stream.getvalue()
    return content[: ends[4]] + pickle.dumps([attack], 2) + content[ends[5] :]
