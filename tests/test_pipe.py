from __future__ import annotations

import mne
import numpy as np
import pytest

import mne_labram
from mne_labram.pipe import add_pipe_method


@pytest.fixture(scope="module")
def raw() -> mne.io.BaseRaw:
    data = 1e-5 * np.random.default_rng(0).standard_normal((2, 300))
    return mne.io.RawArray(data, mne.create_info(["Fp1", "Fp2"], 100.0, "eeg"), verbose="error")


def test_raw_epochs_and_evoked_have_the_method(raw: mne.io.BaseRaw) -> None:
    epochs = mne.make_fixed_length_epochs(raw, duration=1.0, verbose="error")
    for inst in (raw, epochs, epochs.average()):
        assert inst.pipe(lambda given: given) is inst
        assert mne_labram.pipe(inst, lambda given: given) is inst


def test_arguments_reach_the_function(raw: mne.io.BaseRaw) -> None:
    def func(*args: object, **kwargs: object) -> tuple[object, ...]:
        return args, kwargs

    assert raw.pipe(func, 1, "two", three=3) == ((raw, 1, "two"), {"three": 3})
    assert raw.pipe((func, "recording"), 1, three=3) == ((1,), {"recording": raw, "three": 3})
    # Names that are also those of pipe's own arguments.
    assert raw.pipe(func, inst=1, func=2) == ((raw,), {"inst": 1, "func": 2})


def test_chains_with_methods_of_mne(raw: mne.io.BaseRaw) -> None:
    before = raw.get_data()
    names = raw.copy().pick(["Fp2"]).pipe(mne.io.BaseRaw.rename_channels, {"Fp2": "Fp2-ref"}).ch_names
    assert names == ["Fp2-ref"]
    np.testing.assert_array_equal(raw.get_data(), before)


@pytest.mark.parametrize("func", ["filter", None, (len,), (len, 1), ("name", "keyword"), [len, "obj"], (len, "a", "b")])
def test_refuses_what_cannot_be_called(raw: mne.io.BaseRaw, func: object) -> None:
    with pytest.raises(TypeError, match=r"^func must be a callable or a tuple .* got .*\.$"):
        raw.pipe(func)


def test_refuses_two_values_for_one_argument(raw: mne.io.BaseRaw) -> None:
    with pytest.raises(ValueError, match=r"^'obj' is the argument that the recording is passed as"):
        raw.pipe((len, "obj"), obj=3)


def test_a_method_that_mne_has_is_left_alone() -> None:
    class WithPipe:
        def pipe(self) -> str:
            return "own"

    class Inherits(WithPipe):
        pass

    class Without:
        pass

    add_pipe_method(WithPipe, Inherits, Without)
    assert WithPipe().pipe() == Inherits().pipe() == "own"
    assert "pipe" not in vars(Inherits)
    assert Without().pipe(lambda given: type(given)) is Without


def test_importing_again_changes_nothing() -> None:
    before = mne.io.BaseRaw.pipe
    add_pipe_method()
    assert mne.io.BaseRaw.pipe is before is mne_labram.pipe
