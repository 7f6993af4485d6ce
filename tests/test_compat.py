"""Importing decides once per process, so each case runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

#: A torchaudio in small: the compiled part is loaded first, and two names of it are read by another file.
TORCHAUDIO = {
    "__init__.py": "from . import _extension\nfrom . import functional\n",
    "_extension/__init__.py": """
        from .utils import _load_lib
        _IS_TORCHAUDIO_EXT_AVAILABLE = _load_lib("_torchaudio")
        def fail_if_no_align(func):
            return func
        """,
    "_extension/utils.py": "def _load_lib(lib):\n    return True\n",
    "functional.py": """
        from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align
        compiled = _IS_TORCHAUDIO_EXT_AVAILABLE
        @fail_if_no_align
        def forced_align():
            return "aligned"
        """,
}
LOAD_LIBRARY = 'def _load_lib(lib):\n    raise OSError(f"Could not load this library: {lib}\\nmore")\n'
CUDA_VERSION = 'def _load_lib(lib):\n    raise RuntimeError("compiled with different CUDA versions")\n'


def _write_package(folder: Path, name: str, files: dict[str, str]) -> None:
    """Write a Python package."""
    for path, text in files.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))


def _run(code: str, *first_on_path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter with folders before the installed packages."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, first_on_path)), "MNE_LOGGING_LEVEL": "info"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("broken", [LOAD_LIBRARY, CUDA_VERSION], ids=["OSError", "RuntimeError"])
def test_repairs_a_torchaudio_whose_compiled_part_does_not_load(tmp_path: Path, broken: str) -> None:
    _write_package(tmp_path, "torchaudio", {**TORCHAUDIO, "_extension/utils.py": broken})
    done = _run(
        """
        from mne_labram._compat import repair_torchaudio
        try:
            import torchaudio
        except (OSError, RuntimeError):
            pass
        else:
            raise AssertionError("the stub is not broken")
        assert repair_torchaudio() == repair_torchaudio() == "repaired"
        import torchaudio.functional
        assert torchaudio._extension._load_lib("any") is torchaudio.functional.compiled is False
        assert not hasattr(torchaudio._extension, "unknown")
        import importlib.util
        assert importlib.util.find_spec("torchaudio._extension").name == "torchaudio._extension"
        try:
            torchaudio.functional.forced_align()
        except ImportError as error:
            print(error)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert "torchaudio.functional.forced_align needs the compiled part of torchaudio." in output
    assert output.count("without its compiled part") == 1  # said once
    assert "more" not in output  # in one line


def test_leaves_a_healthy_torchaudio_alone(tmp_path: Path) -> None:
    _write_package(tmp_path, "torchaudio", TORCHAUDIO)
    done = _run(
        """
        import torchaudio, sys
        before = {name: module for name, module in sys.modules.items() if name.startswith("torchaudio")}
        contents = {name: dict(vars(module)) for name, module in before.items()}
        from mne_labram._compat import repair_torchaudio
        assert repair_torchaudio() == "healthy"
        after = {name: module for name, module in sys.modules.items() if name.startswith("torchaudio")}
        assert after == before and "torchaudio._extension.utils" in after
        assert {name: dict(vars(module)) for name, module in after.items()} == contents
        assert torchaudio.functional.forced_align() == "aligned" and torchaudio.functional.compiled
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"functional.py": "raise OSError('another library')\n"}, "OSError: another library"),
        ({"functional.py": "raise RuntimeError('another reason')\n"}, "RuntimeError: another reason"),
        ({"_extension/utils.py": "raise ImportError('incomplete')\n"}, "ImportError: incomplete"),
        (
            {"_extension/utils.py": LOAD_LIBRARY, "functional.py": "raise OSError('another library')\n"},
            "OSError: another library",
        ),
    ],
)
def test_repairs_nothing_else(tmp_path: Path, files: dict[str, str], error: str) -> None:
    _write_package(tmp_path, "torchaudio", {**TORCHAUDIO, **files})
    done = _run(
        """
        import sys
        from mne_labram._compat import repair_torchaudio
        try:
            repair_torchaudio()
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        from mne_labram import _compat
        assert not any(isinstance(module, _compat._AbsentExtension) for module in sys.modules.values())
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, error + "\n", "")


def test_an_absent_torchaudio_stays_absent() -> None:
    done = _run(
        """
        import sys
        sys.modules["torchaudio"] = None  # the import system's word for "there is none"
        from mne_labram._compat import repair_torchaudio
        assert repair_torchaudio() == "absent"
        assert [name for name in sys.modules if name.startswith("torchaudio")] == ["torchaudio"]
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prepares_braindecode_when_it_is_imported_and_not_before(tmp_path: Path) -> None:
    _write_package(tmp_path, "torchaudio", {**TORCHAUDIO, "_extension/utils.py": LOAD_LIBRARY})
    _write_package(
        tmp_path,
        "braindecode",
        {
            "__init__.py": """
                import sys, torchaudio, warnings
                assert "mne_labram.models" not in sys.modules or "complete" in globals()
                assert __spec__.loader is __loader__ and hasattr(__loader__, "get_data")
                warnings.warn("Montage name 'standard_1020' is deprecated and will be removed", FutureWarning)
                warnings.warn("something else", FutureWarning)
                complete = True
                """
        },
    )
    # A stand-in for our models, which need the real Braindecode.
    (tmp_path / "our_models.py").write_text("import braindecode\nassert braindecode.complete\n")
    done = _run(
        f"""
        import importlib.util, sys
        import mne_labram

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "mne_labram.models":
                    return importlib.util.spec_from_file_location(name, {str(tmp_path / "our_models.py")!r})

        sys.meta_path.insert(0, Finder())
        assert importlib.util.find_spec("braindecode").name == "braindecode"
        assert not {{"braindecode", "torchaudio", "mne_labram.models"}} & set(sys.modules)
        import braindecode
        assert {{"braindecode", "torchaudio", "mne_labram.models"}} <= set(sys.modules)
        importlib.reload(braindecode)
        mne_labram._compat.watch_braindecode()
        assert sum(type(finder).__module__ == "mne_labram._compat" for finder in sys.meta_path) == 1
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "standard_1020" not in done.stderr
    assert "something else" in done.stderr


OUR_MODELS = {"LabramForClassification", "LabramTokenizer", "LabramForMaskedModeling"}
REGISTERED = f"""
from braindecode.models.util import models_dict
assert {OUR_MODELS} <= set(models_dict), sorted(models_dict)
"""


def test_braindecode_imports_here_and_knows_our_models() -> None:
    """Is the real case where torchaudio does not fit torch; a healthy one must work as well."""
    done = _run("import mne_labram, sys\nassert 'torch' not in sys.modules\n" + REGISTERED)
    assert done.returncode == 0, done.stderr
    alone = _run("import torchaudio")
    assert (done.stdout + done.stderr).count("without its compiled part") == int(alone.returncode != 0)
    assert "FutureWarning" not in done.stderr


def test_braindecode_may_be_imported_first() -> None:
    compat = Path(__file__).parents[1] / "mne_labram" / "_compat.py"
    done = _run(
        f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("compat", {str(compat)!r})
        compat = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(compat)
        compat.repair_torchaudio()  # no more than what a healthy machine has without us
        import braindecode.models
        assert "mne_labram" not in sys.modules
        import mne_labram
        """
        + textwrap.indent(REGISTERED, " " * 8)
    )
    assert done.returncode == 0, done.stderr


def test_our_models_may_be_imported_first() -> None:
    done = _run("from mne_labram import LabramTokenizer\n" + REGISTERED)
    assert done.returncode == 0, done.stderr
