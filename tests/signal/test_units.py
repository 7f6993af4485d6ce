"""The amplitude of a recording and what it says of the unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.signal.units import PLAUSIBLE, amplitude_problem, typical_amplitude, unit_factor


def test_factors():
    assert unit_factor(None, "V") == 1e6
    assert unit_factor(None, "uV") == 1
    assert unit_factor("\u00b5V", "V") == unit_factor("\u03bcV", "V") == unit_factor("uV", "V") == 1
    assert unit_factor("mV", "V") == 1e3
    assert unit_factor("nV", "V") == 1e-3
    for wrong in ("volt", "v", "", 1, ["uV"]):
        with pytest.raises(ValueError, match="assume_unit must be one of"):
            unit_factor(wrong, "V")


def test_typical_amplitude_ignores_offset_drift_and_missing_samples():
    rng = np.random.default_rng(0)
    clean = 10 * rng.standard_normal((3, 8, 1000))
    expected = typical_amplitude(list(clean))
    np.testing.assert_allclose(expected, 6.745, rtol=0.1)
    dirty = clean + np.array([0, 3e4, -8e4, 1e5, 1, 2, 3, 4.0])[:, None]
    # 50 µV/s of drift, four seconds per excerpt
    dirty[:, 5] += np.arange(1000) / 250 * 2
    dirty[1, 2, 100:900] = np.nan
    np.testing.assert_allclose(typical_amplitude(list(dirty)), expected, rtol=0.1)


def test_typical_amplitude_of_nothing():
    segment = np.zeros((4, 100))
    segment[1] = np.nan
    segment[2, :30] = 4.0
    segment[3] = np.arange(100) % 2
    amplitude = typical_amplitude([segment, np.zeros((4, 50))])
    assert amplitude[0] == amplitude[1] == 0
    # mostly at rest, as coarsely digitised EEG can be: not zero, and not diluted by excerpts without movement
    assert amplitude[2] == pytest.approx(1.2)
    assert amplitude[3] == pytest.approx(0.5)


@given(amplitude=st.floats(-12, 12).map(lambda x: 10.0**x), unit=st.sampled_from(["V", "mV", "uV", "nV"]))
def test_the_remedy_works(amplitude, unit):
    """Whatever is refused, the unit that the sentence names makes it plausible."""
    factor = unit_factor(unit, "V")
    refusal, warning = amplitude_problem(amplitude, factor=factor, vouched=False)
    assert warning is None
    assert (refusal is None) == (PLAUSIBLE[0] <= amplitude <= PLAUSIBLE[1])
    if refusal is None:
        return
    assert "\n" not in refusal
    assert refusal.endswith(".")
    if "assume_unit=" in refusal:
        named = refusal.split("assume_unit='")[1].split("'")[0]
        assert named != unit
        repaired = amplitude / factor * unit_factor(named, "V")
        assert amplitude_problem(repaired, factor=1.0, vouched=True) == (None, None)
    else:
        numbers = amplitude / factor
        assert not any(PLAUSIBLE[0] * 1.001 < numbers * f < PLAUSIBLE[1] / 1.001 for f in (1e6, 1e3, 1, 1e-3))


def test_vouched_units_are_taken_but_for_mistakes_of_a_thousand():
    refusal, warning = amplitude_problem(2500.0, factor=1.0, vouched=True)
    assert refusal is None
    assert "2.5e+03 µV" in warning
    refusal, warning = amplitude_problem(2e-5, factor=1.0, vouched=True)
    assert "assume_unit is wrong" in refusal
    refusal, _ = amplitude_problem(0.0, factor=1.0, vouched=True)
    assert "constant" in refusal
    refusal, _ = amplitude_problem(2e7, factor=1e6, vouched=False, hint="the file gives no unit")
    assert "(the file gives no unit); if the numbers are in uV, pass assume_unit='uV'." in refusal


@pytest.mark.parametrize(("held", "power"), [("V", 6), ("mV", 3)])
def test_larger_units_in_a_file_that_says_microvolts(held: str, power: int) -> None:
    """MNE's numbers are volts then, too small by what no ``assume_unit`` stands for; the factor that is named helps."""
    numbers = 20e-6 / 10.0**power
    problem, note = amplitude_problem(1e6 * numbers, factor=1e6, vouched=False, what="x.edf")
    assert note is None
    assert f"if the file holds {held} and says µV" in problem
    assert f"x: 1e{power} * x" in problem
    repaired = 1e6 * numbers * 10.0**power
    assert amplitude_problem(repaired, factor=1e6, vouched=False, what="x.edf") == (None, None)
