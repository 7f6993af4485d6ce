"""A pickle is read as data: whatever it asks for, nothing of it runs."""

from __future__ import annotations

import argparse
import io
import pickle
import random
import subprocess
import zipfile
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.weights.pickle_reader import read_torch_file

from .hostile import ATTACKS, PLACES, with_attack_after_the_weights

FORMATS = {"zip": True, "legacy": False}


def _training_dict() -> dict:
    """Make what LaBraM's save_model writes: a step of AdamW has been made, and the schedule's rates are NumPy's."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = np.linspace(1e-3, 1e-4, 5)[2]
    optimizer.param_groups[0]["weight_decay"] = np.float32(0.05)
    return {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "args": argparse.Namespace(model="labram_base_patch200_200", lr=5e-4, window=(1, 2), seed=np.int64(3), x=None),
    }


def _save(content: object, path: Path, zipped: bool, **kwargs) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped, **kwargs)
    return path


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_reads_a_whole_training_dict(tmp_path: Path, zipped: bool) -> None:
    given_ = _training_dict()
    content = read_torch_file(_save(given_, tmp_path / "a.pth", zipped))
    assert list(content) == list(given_)
    assert isinstance(content["model"], OrderedDict)
    for name, value in given_["model"].items():
        torch.testing.assert_close(content["model"][name], value, rtol=0, atol=0)
    assert content["epoch"] == 7
    assert content["args"].model == "labram_base_patch200_200"
    assert content["args"].window == (1, 2)
    # NumPy scalars come back without their value, and as nothing that NumPy made.
    assert not isinstance(content["optimizer"]["param_groups"][0]["lr"], np.generic | float)


@pytest.mark.parametrize("numpy_module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_learning_rates_of_old_and_new_numpy(tmp_path: Path, numpy_module: str) -> None:
    _save({"lr": np.float64(0.5), "w": torch.ones(2)}, tmp_path / "a.pth", zipped=False)
    content = (tmp_path / "a.pth").read_bytes()
    for written in (b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"):
        content = content.replace(written, f"{numpy_module}\n".encode())
    (tmp_path / "a.pth").write_bytes(content)
    assert torch.equal(read_torch_file(tmp_path / "a.pth")["w"], torch.ones(2))


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_refuses_by_name_and_runs_nothing(tmp_path: Path, attack: type, place, zipped: bool) -> None:
    mark = tmp_path / "mark"
    path = _save(place(attack(mark)), tmp_path / "evil.pth", zipped)
    with pytest.raises(ValueError, match=f"^'evil.pth' asks for {ATTACKS[attack]}, .*nothing of the file was executed"):
        read_torch_file(path)
    assert not mark.exists()


@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_the_attacks_would_work(tmp_path: Path, attack: type) -> None:
    """Otherwise the test above would prove nothing."""
    mark = tmp_path / "mark"
    result = pickle.loads(pickle.dumps(attack(mark), 2))
    if hasattr(result, "close"):
        result.close()
    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_refuses_plain_pickles_of_every_protocol(tmp_path: Path, attack: type, protocol: int) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": [attack(mark), attack(mark)]}, protocol))
    with pytest.raises(ValueError, match=f"asks for {ATTACKS[attack]}, "):
        read_torch_file(path)
    assert not mark.exists()


@pytest.mark.parametrize("attack", ATTACKS, ids=ATTACKS.values())
def test_looks_behind_the_weights_of_an_old_file(tmp_path: Path, attack: type) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    path.write_bytes(with_attack_after_the_weights(attack(mark)))
    with pytest.raises(ValueError, match=f"asks for {ATTACKS[attack]}, "):
        read_torch_file(path)
    assert not mark.exists()


def test_torch_is_a_second_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the list of names let everything through, torch.load is asked for weights only."""

    class Everything:
        def __contains__(self, name: str) -> bool:
            return True

    monkeypatch.setattr("mne_labram.weights.pickle_reader.ALLOWED_NAMES", Everything())
    for attack in ATTACKS:
        for zipped in FORMATS.values():
            mark = tmp_path / "mark"
            path = _save({"args": argparse.Namespace(x=attack(mark))}, tmp_path / "evil.pth", zipped)
            with pytest.raises(ValueError, match="is damaged or no plain checkpoint"):
                read_torch_file(path)
            assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"args": Decimal("1")}, "decimal.Decimal"),
        ({"args": subprocess.Popen}, "subprocess.Popen"),
        ({"w": np.zeros(3)}, r"numpy\.(_core|core)\.multiarray\._reconstruct"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
    ],
    ids=["module", "decimal", "popen", "ndarray", "sparse"],
)
@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_refuses_everything_else(tmp_path: Path, content: object, name: str, zipped: bool) -> None:
    with pytest.raises(ValueError, match=f"asks for {name}, which is no part of a checkpoint"):
        read_torch_file(_save(content, tmp_path / "a.pth", zipped))


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_refuses_another_pickle_protocol(tmp_path: Path, zipped: bool) -> None:
    path = _save({"w": torch.zeros(2)}, tmp_path / "a.pth", zipped, pickle_protocol=4)
    with pytest.raises(ValueError, match="is in pickle protocol 4"):
        read_torch_file(path)


def test_refuses_a_vulnerable_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save({"w": torch.zeros(2)}, tmp_path / "a.pth", zipped=True)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match="install torch 2.10 or later"):
        read_torch_file(path)


def test_refuses_a_torchscript_program(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("program/data.pkl", "program/code/__torch__.py", "program/constants.pkl"):
            archive.writestr(name, b"")
    with pytest.raises(ValueError, match="is a TorchScript program"):
        read_torch_file(path)


def test_refuses_a_compressed_archive(tmp_path: Path) -> None:
    _save({"w": torch.zeros(100_000)}, tmp_path / "a.pth", zipped=True)
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", compression=zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    with pytest.raises(ValueError, match="'bomb.pth' is a compressed archive"):
        read_torch_file(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"not a checkpoint",
        b"0       X X X X                                        ",
        pickle.dumps({"w": 1}, 2),
        b"PK\x03\x04 and nothing more",
        b"\x80\x02X\xff\xff\xff\xff",
    ],
)
def test_refuses_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint of torch.save|not a checkpoint of torch.save") as error:
        read_torch_file(tmp_path / "a.pth")
    assert "\n" not in str(error.value)


def test_refuses_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(ValueError, match="0 files data.pkl"):
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_every_truncation_is_one_sentence(tmp_path: Path, zipped: bool) -> None:
    path = _save({"model": {"w": torch.arange(50.0)}, "args": argparse.Namespace(a=1)}, tmp_path / "a.pth", zipped)
    content = path.read_bytes()
    for length in range(1, len(content), 17):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="a.pth") as error:
            read_torch_file(path)
        assert "\n" not in str(error.value)


def _content() -> bytes:
    stream = io.BytesIO()
    torch.save(_training_dict(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@given(seed=st.integers(0, 2**32 - 1))
def test_damage_gives_values_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(_content())
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    message = ""
    try:
        read_torch_file(path)
    except ValueError as error:
        message = str(error)
    assert message == "" or (message.startswith("'damaged.pth' ") and message.isprintable())


def test_what_the_caller_allowed_stays_allowed(tmp_path: Path) -> None:
    path = _save({"args": argparse.Namespace(a=1)}, tmp_path / "a.pth", zipped=True)
    before = torch.serialization.get_safe_globals()
    read_torch_file(path)
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with torch.serialization.safe_globals([argparse.Namespace]):
        read_torch_file(path)
        assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_paths_are_read_as_nothing(tmp_path: Path) -> None:
    """As in the configuration of Gram's checkpoints, on whatever system they were written."""
    content = read_torch_file(_save({"a": Path("a"), "w": torch.ones(2)}, tmp_path / "a.pth", zipped=True))
    assert torch.equal(content["w"], torch.ones(2))
    assert not isinstance(content["a"], Path)


def test_what_the_caller_allowed_is_not_allowed_here(tmp_path: Path) -> None:
    path = _save({"args": Decimal("1")}, tmp_path / "a.pth", zipped=True)
    with torch.serialization.safe_globals([Decimal]), pytest.raises(ValueError, match="asks for decimal"):
        read_torch_file(path)


def test_names_from_a_file_are_fit_to_print(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02c" + b"evil\x1b[2J" * 40 + b"\nname\n.")
    with pytest.raises(ValueError, match="asks for evil") as error:
        read_torch_file(tmp_path / "a.pth")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
