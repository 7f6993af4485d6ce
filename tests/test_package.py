"""The house itself: what it offers, what stands on what, and that nothing grows too large."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mne_labram

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path(mne_labram.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: What a room may import: distributions by the name they are imported by, then rooms of ours (its own always).
#: Rooms that are not listed here stand on top of the house and may import everything.
FLOORS = {
    "_compat": ({"mne"}, set()),
    "_compiled": ({"numba"}, set()),
    "_files": (set(), set()),
    "pipe": ({"mne"}, set()),
    # joblib and mne_bids where recordings are many: both are imported when they are needed.
    "signal": ({"numpy", "scipy", "mne", "joblib", "mne_bids"}, {"_files"}),
    "nn": ({"torch"}, set()),
    "models": (
        {"numpy", "scipy", "torch", "braindecode", "mne"},
        # Of signal/ only what speaks of names and positions of channels.
        {
            "nn",
            *(
                f"signal.{name}"
                for name in ("alignment", "channels", "contract", "head_field", "interpret", "positions", "vocabulary")
            ),
        },
    ),
    "weights": ({"numpy", "torch", "safetensors", "mne"}, {"_files", "models", "nn", "signal.contract"}),
    "decoding": (
        {"numpy", "scipy", "torch", "mne", "sklearn", "skorch", "braindecode", "matplotlib", "pandas", "tqdm"},
        {"_files", "weights", "nn", "signal"},
    ),
    "training": (
        {"numpy", "torch", "mne", "accelerate", "safetensors", "tqdm", "sklearn", "skorch", "braindecode", "peft"},
        {"_files", "weights", "models", "nn", "signal"},
    ),
    "seizure": (
        {
            "numpy",
            "scipy",
            "torch",
            "mne",
            "mne_bids",
            "joblib",
            "matplotlib",
            "pandas",
            "sklearn",
            "timescoring",
            "tqdm",
        },
        {"_files", "decoding", "training", "weights", "models", "nn", "signal"},
    ),
    "codec": (
        {"numpy", "scipy", "mne", "constriction", "joblib", "numba", "torch", "tqdm", "safetensors"},
        {"_compiled", "_files", "decoding", "weights", "models", "nn", "signal"},
    ),
    "restoration": (
        {"numpy", "scipy", "torch", "mne", "sklearn", "matplotlib"},
        {"_files", "decoding", "weights", "models", "nn", "signal"},
    ),
    "source": (
        {"numpy", "scipy", "torch", "mne", "nilearn", "numba", "joblib", "matplotlib", "safetensors", "tqdm"},
        {"_compiled", "_files", "training", "weights", "models", "nn", "signal"},
    ),
    "verbs": (
        {"numpy", "torch", "mne"},
        {"_files", "codec", "seizure", "source", "decoding", "weights", "models", "signal"},
    ),
}
TOP = {"__init__", "benchmark", "commands"}


def _imports(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever the statement stands, but not for type checkers only."""
    tree = ast.parse(file.read_text(encoding="utf8"))
    package = [PACKAGE.name, *file.relative_to(PACKAGE).parts[:-1]]
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            is_package = module == PACKAGE.name or (PACKAGE.parent / module.replace(".", "/")).is_dir()
            if module.startswith(PACKAGE.name) and is_package:
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def _room(file: Path) -> str:
    """Name the room of a file: the folder, or the module that stands alone."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def _distribution(module: str) -> str | None:
    """Name what has to be installed for an import, None for the standard library."""
    top = module.split(".")[0]
    return None if top in sys.stdlib_module_names else top


def test_the_picture_of_the_house_is_complete() -> None:
    assert {_room(file) for file in FILES} <= set(FLOORS) | TOP
    picture = (REPOSITORY / "doc" / "architecture.md").read_text(encoding="utf8")
    for room in {_room(file) for file in FILES} - {"__init__"}:
        assert f"`{room}" in picture, f"doc/architecture.md does not show {room}."
    for name in re.findall(r"`([\w/]+\.pyi?)`", picture):
        assert (PACKAGE / name).is_file() or (REPOSITORY / name).is_file(), f"doc/architecture.md shows {name}."


@pytest.mark.parametrize("room", FLOORS)
def test_nothing_imports_what_is_above_it(room: str) -> None:
    distributions, rooms = FLOORS[room]
    trespasses = []
    for file in FILES:
        if _room(file) != room:
            continue
        for module in _imports(file):
            parts = module.split(".")
            if parts[0] == PACKAGE.name:
                below = {".".join(parts[1 : 1 + depth]) for depth in (1, 2)}
                fine = parts[1] in (room, "__version__") or below & rooms
            else:
                distribution = _distribution(module)
                fine = distribution is None or distribution in distributions
            if not fine:
                trespasses.append(f"{file.relative_to(PACKAGE)} imports {module}")
    assert not trespasses


def test_the_import_reader_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor rule is only as good as this."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "mne_labram")
    file = tmp_path / "mne_labram" / "signal" / "a.py"
    (file.parent / "sub").mkdir(parents=True)
    file.write_text(
        "import torch.nn as nn, scipy\nfrom ..models.labram import x\nfrom . import b, c\nfrom .sub import d\n"
        "from mne_labram import check\nfrom mne_labram.verbs import e\n"
        "def f():\n    from numpy import g\nif TYPE_CHECKING:\n    from braindecode import h\nelse:\n    import i\n"
    )
    assert set(_imports(file)) == {
        "torch.nn",
        "scipy",
        "mne_labram.models.labram",
        "mne_labram.signal.b",
        "mne_labram.signal.c",
        "mne_labram.signal.sub.d",
        "mne_labram.check",
        "mne_labram.verbs",
        "numpy",
        "i",
    }


def test_every_dependency_is_declared_and_used() -> None:
    with open(REPOSITORY / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    declared = {re.match(r"[\w-]+", requirement).group() for requirement in project["dependencies"]}
    extras = {
        re.match(r"[\w-]+", requirement).group()
        for rs in project["optional-dependencies"].values()
        for requirement in rs
    }
    names = {
        "sklearn": "scikit-learn",
        "lazy_loader": "lazy-loader",
        "mne_bids": "mne-bids",
        "pywt": "PyWavelets",
        "tvb": "tvb-library",
    }
    imported = {_distribution(module) for file in FILES for module in _imports(file)} - {None, PACKAGE.name}
    imported = {names.get(name, name) for name in imported}
    assert declared <= imported
    assert imported <= declared | extras


def test_importing_and_checking_need_no_torch() -> None:
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in FILES]
    light = [name.removesuffix(".__init__") for name in modules if name.startswith("mne_labram.signal.")]
    code = f"""
import importlib, json, sys
import mne_labram
from mne_labram import LABRAM_CONTRACT, ContractError, SignalContract, check, conform, pipe
for name in {light!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{"torch", "braindecode", "sklearn", "torchaudio"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_version() -> None:
    assert importlib.metadata.version("mne-labram") == mne_labram.__version__


def test_what_is_not_code_is_shipped() -> None:
    package = importlib.resources.files("mne_labram")
    assert (package / "codec" / "models" / "hybrid.safetensors").is_file()
    assert (package / "py.typed").is_file()
    assert (package / "__init__.pyi").is_file()


@pytest.mark.parametrize("name", mne_labram.__all__)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(mne_labram, name)
    assert name in dir(mne_labram)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        assert isinstance(value, mne_labram.SignalContract)
        return
    documentation = inspect.getdoc(value)
    assert re.match(r".+\.(\n|$)", documentation), f"{name} needs a summary of one line that ends in a full stop."
    if inspect.isclass(value) and issubclass(value, BaseException):
        return
    documented = set()
    for line in documentation.splitlines():
        # "a, b : int", or "a, b" alone where another docstring is referred to.
        if match := re.match(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :.*)?$", line):
            documented |= {part.strip().lstrip("*") for part in match.group(1).split(",")}
    parameters = set(inspect.signature(value).parameters) - {"self"}
    assert parameters <= documented, f"{name} does not document {sorted(parameters - documented)}."


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="not_there"):
        _ = mne_labram.not_there


def test_the_stub_says_what_there_is() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf8"))
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert sorted(imported) == sorted(listed) == sorted(mne_labram.__all__)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_stay_small(file: Path) -> None:
    assert len(file.read_text(encoding="utf8").splitlines()) <= 500


def test_ci_runs_the_command_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf8")
    blocks = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("python3.11 ")]
    assert len(commands) == 2
    assert commands[0].endswith("mne-labram demo")
    pattern = re.search(r"grep -m 1 '(.*?)' README.md", (REPOSITORY / ".ci" / "run").read_text(encoding="utf8")).group(
        1
    )
    assert [line for line in readme.splitlines() if re.search(pattern, line)] == [commands[1]]
