"""Integers come back as they were, or within so many steps; whatever is done to their bytes, nothing crashes."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mne_labram.codec.lossless import LosslessCoder

INT32 = np.iinfo(np.int32)


def _eeg(n_channels: int = 5, n_samples: int = 700, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sources = np.cumsum(rng.standard_normal((3, n_samples)), axis=1)
    x = rng.standard_normal((n_channels, 3)) @ sources * 8 + rng.standard_normal((n_channels, n_samples))
    return np.rint(x).astype(np.int32)


def _round_trip(x: np.ndarray, max_error: int = 0) -> bytes:
    kept = x.copy()
    payload = LosslessCoder(max_error=max_error).encode(x)
    coder = LosslessCoder(max_error=max_error, n_channels=len(x))
    decoded = coder.decode(payload, x.shape[1])
    assert decoded.dtype == np.int32
    assert decoded.shape == x.shape
    assert np.array_equal(x, kept)
    assert np.abs(decoded.astype(np.int64) - x).max(initial=0) <= max_error
    return payload


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(0, 150)),
    low=st.sampled_from([INT32.min, -32768, -3, 0]),
    high=st.sampled_from([INT32.max, 32767, 1, 0]),
    data=st.data(),
)
@settings(max_examples=60)
def test_any_integers_come_back(shape, low, high, data) -> None:
    x = data.draw(arrays(np.int32, shape, elements=st.integers(low, high)))
    assert len(_round_trip(x)) <= 8 + 4 * x.size
    error = data.draw(st.sampled_from([1, 2, 7, 1000, 2**24]))
    _round_trip(x, error)


@pytest.mark.parametrize("seed", range(3))
def test_extremes_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([INT32.min, INT32.max, 0, -1], size=(4, 900)).astype(np.int32)
    _round_trip(x)
    _round_trip(np.cumsum(rng.integers(0, 5, (3, 3000)), axis=1).astype(np.int32) + INT32.max - 15_000)
    _round_trip(x, 3)
    # A rhythm through the whole range, whose predictions overshoot it.
    t = np.arange(2000)
    wave = np.rint(INT32.max * np.clip(1.5 * np.sin(t / (7 + seed)), -1, 1)).astype(np.int32)
    payload = _round_trip(np.stack([wave, -wave, np.roll(wave, 3)]))
    assert len(payload) < 4 * 3 * 2000
    _round_trip(np.stack([wave, -wave]), 100)


@pytest.mark.parametrize("n_channels", [1, 2, 63, 64, 65, 256])
def test_any_number_of_channels(n_channels: int) -> None:
    _round_trip(_eeg(n_channels, 300))


@pytest.mark.parametrize("n_samples", [1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 128, 511, 512, 545, 1025])
def test_any_number_of_samples(n_samples: int) -> None:
    _round_trip(_eeg(3, n_samples))
    _round_trip(_eeg(1, n_samples), 2)


def test_what_never_or_seldom_changes_costs_next_to_nothing() -> None:
    x = np.full((1, 100_000), -32768, dtype=np.int32)
    assert len(_round_trip(x)) < 10
    x[0, 500:600] = 1
    x[0, 70_000] = 7
    assert len(_round_trip(x)) < 40
    quiet = np.zeros((2, 50_000), dtype=np.int32)
    quiet[:, ::40] = 1
    # An impulse every 40 samples is 0.17 bits per sample, were it at random; a dead stretch is next to nothing.
    assert len(_round_trip(quiet)) * 8 < 0.3 * quiet.size
    dead = _eeg(2, 20_000)
    dead[:, 2000:] = dead[:, 2000:2001]
    assert len(_round_trip(dead)) * 8 < 0.1 * dead.size + 2 * 2000 * 10


def test_a_copy_and_a_difference_cost_next_to_nothing() -> None:
    x = _eeg(3, 8000)
    alone = len(_round_trip(x))
    more = np.concatenate([x, x[:1], x[1:2] - x[2:3]])
    assert len(_round_trip(more)) < 1.05 * alone + 800


def test_common_divisors_are_taken_out() -> None:
    x = _eeg(3, 4000)
    plain = len(_round_trip(x))
    assert len(_round_trip(x * 48 + 7)) < plain + 20
    assert len(_round_trip(x * 48 + 7, 20)) < plain + 20


def test_an_error_allowed_saves_bits() -> None:
    x = _eeg(4, 6000)
    sizes = [len(_round_trip(x, error)) for error in (0, 1, 3, 10)]
    # Quantising by 2 e + 1 saves its logarithm per sample, but for what rounding the past does to the prediction.
    saved = 8 * (sizes[0] - np.array(sizes[1:])) / x.size
    assert (saved > [0.7, 1.6, 2.4]).all()


def test_real_recordings_take_less_than_flac(shared_data) -> None:
    soundfile = pytest.importorskip("soundfile")
    import io

    import mne

    path = shared_data / "chbmit" / "chb01_03_seizure_full.edf"
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    # The step of CHB-MIT is 1600 / 4095 microvolts, with a sample at half a step above zero.
    x = np.rint(raw.get_data()[:, :5000] * 1e6 / (1600 / 4095) - 0.5).astype(np.int32)
    payload = _round_trip(x)
    flac = 0
    for first in range(0, len(x), 8):
        file = io.BytesIO()
        soundfile.write(file, x[first : first + 8].T.astype(np.int16), 256, format="FLAC", compression_level=1.0)
        flac += len(file.getvalue())
    assert len(payload) < 0.85 * flac


def test_the_same_bytes_every_time() -> None:
    x = _eeg(6, 1500)
    payload = LosslessCoder().encode(x)
    assert LosslessCoder().encode(x) == payload
    assert LosslessCoder().encode(np.asfortranarray(x.astype(np.int64))) == payload


def test_made_for_a_recording_and_from_a_file() -> None:
    coder = LosslessCoder.make(sfreq=256.0, ch_names=["Fz", "Cz"], block_samples=1000, max_error=2)
    assert coder.name == "lossless"
    assert coder.parameters() == {"max_error": 2, "n_channels": 2}
    x = _eeg(2, 100)
    again = LosslessCoder(**coder.parameters())
    assert np.array_equal(again.decode(coder.encode(x, bits=None), 100), coder.decode(coder.encode(x), 100))


def test_wrong_arguments() -> None:
    for wrong in (-1, 2**24 + 1, 0.5, True, "1"):
        with pytest.raises(ValueError, match="max_error must be an integer"):
            LosslessCoder(max_error=wrong)
    for wrong in (0, 5000, 1.0):
        with pytest.raises(ValueError, match="n_channels must be an integer"):
            LosslessCoder(n_channels=wrong)
    with pytest.raises(TypeError, match="Samples must be integers"):
        LosslessCoder().encode(np.zeros((2, 3)))
    for shape in ((3,), (0, 3), (1, 2, 3)):
        with pytest.raises(ValueError, match="must be of shape"):
            LosslessCoder().encode(np.zeros(shape, dtype=np.int32))
    with pytest.raises(ValueError, match=r"must be of shape \(2, n_samples\)"):
        LosslessCoder(n_channels=2).encode(np.zeros((3, 4), dtype=np.int32))
    with pytest.raises(ValueError, match="fit into 32 bits"):
        LosslessCoder().encode(np.array([[2**31]]))


def _never_crashes(payload: bytes, n_channels: int, n_samples: int, known: bool) -> bool:
    """Decode damaged bytes; return whether that was noticed."""
    coder = LosslessCoder(n_channels=n_channels if known else None)
    try:
        decoded = coder.decode(payload, n_samples)
    except ValueError as error:
        sentence = str(error)
    else:
        assert decoded.dtype == np.int32
        assert decoded.shape[1] == n_samples
        assert len(decoded) == n_channels or not known
        return False
    assert sentence.endswith("file is damaged.")
    return True


@pytest.fixture(scope="module")
def payloads() -> list[tuple[bytes, int, int]]:
    """Return payloads of all kinds, with their shapes."""
    rng = np.random.default_rng(0)
    trigger = np.zeros((1, 600), dtype=np.int32)
    trigger[0, [100, 200, 300]] = 1
    noise = rng.integers(INT32.min, INT32.max, (2, 100)).astype(np.int32)
    examples = [
        np.concatenate([_eeg(3, 600), trigger]),
        trigger,
        noise,
        noise[:, :9] // 1000,
        np.zeros((2, 5), np.int32),
    ]
    return [(LosslessCoder().encode(x), *x.shape) for x in examples]


def test_every_byte_damaged_and_every_length(payloads) -> None:
    noticed = 0
    for payload, n_channels, n_samples in payloads:
        for place in {*range(min(len(payload), 130)), *range(130, len(payload), 7)}:
            for change in (1, 128, 255):
                damaged = bytearray(payload)
                damaged[place] ^= change
                noticed += _never_crashes(bytes(damaged), n_channels, n_samples, known=place % 2 == 0)
            assert _never_crashes(payload[:place], n_channels, n_samples, known=True)
        assert _never_crashes(payload + b"\0", n_channels, n_samples, known=True)
        _never_crashes(payload, n_channels, n_samples + 8, known=True)
    assert noticed > 100


@given(content=st.binary(max_size=200), n_samples=st.integers(0, 300), known=st.booleans())
@settings(max_examples=300)
def test_any_bytes(content: bytes, n_samples: int, known: bool) -> None:
    _never_crashes(content, 3, n_samples, known)
    _never_crashes(b"\x01\x03" + content, 3, n_samples, known)


def _known() -> np.ndarray:
    """Return samples that are the same on every machine."""
    state, x = 1, np.zeros((4, 260), dtype=np.int64)
    for t in range(2, 260):
        for c in range(3):
            state = (state * 1103515245 + 12345) % 2**31
            other = 4 * x[c - 1, t] if c else 0
            x[c, t] = (14 * x[c, t - 1] - 7 * x[c, t - 2] + other) // 8 + (state >> 16) % 21 - 10
    x[3] = x[0] - x[1]
    return x.astype(np.int32)


@pytest.mark.parametrize("max_error", [0, 2])
def test_payloads_written_before_can_be_read(max_error: int) -> None:
    """Files must stay readable: whoever changes how they are decoded must keep the old way as well."""
    written, checksum = _WRITTEN[max_error]
    decoded = LosslessCoder(max_error=max_error).decode(base64.b85decode(written), 260)
    assert np.abs(decoded - _known()).max() == max_error
    assert zlib.crc32(decoded.astype("<i4").tobytes()) == checksum


_WRITTEN = {
    0: (
        "0R#d70RjL40ssL5009WFqZH$+50GEbW8%93mS?4Ahamt1AOOS!Dl07|asU7T0RR91g}GIfQgEbJ&XhG>w^z%8XCkl0i|Fo}L{92jpO=d"
        "5IVH>WP|aMSh=*mCZ0fqqa0gFD%@AkwMi^t>mF;idIB>@0Tm%%2B3y}M;Qm7hbrqw5;v9fTB~Cu;&wn*5{We$;Xh9kB^@$+UWTMUFe_p"
        "qL&C}SYvkjI7dLkZ2{ZpL054Q{m(POVD%u>fn0#{oil^LFaH=usUC9&)fSg~?h(YF`QK5}wy27#HOAU<vU6?vw^LDCnO813lb08n&5U@"
        "g95bAUqjFJ;b%Tix|6(@T4^`dNwu%!-!Qv{N&EHOxM<p_b+Ge)&+!qtI)4cVeX`e-+M^`?sRbN6w&Vk6DXmqtvoZq|k6<15`;kn5t#I$"
        "3dpzE7GGNiwwsqFF1a-<niLl=4z0Z1&hey*LEr}-Vk45>3+%}S$nHOY~(?2zd5dB4>G@_Z>$4JjFJqz32eE~co<CA?^Vcu-3IaWE&Ah_"
        "r;mjXvAp1CHod=Ruc2B8S;D$glMGcr&C5OkEBy*zO!6vkBkgV`+@GwD83g69z;Qs|)e`Q=N~y;}jP`w2dj<mhlHS`PSg8tcrkJi}N8^0"
        "R=dLA1+AJC;<Y6yb>beyG&QS@OXTJ*k4v2LgJ0J4*1DGkuY6N17CChSwvwkfG%i;Os&LqTw;1nrGh|eb&ee+AF&Y}9}#h9?I!EctSnGc"
        "ViCM$MF{2&#D2or{=uMA(Vmt2KGen>xG2d86+8lie$?yqnF",
        1175177214,
    ),
    2: (
        "0R#d70RjL40ssL5009WNsuR)T45z>WgqZ=B%>nLat4g^y00STZgaaZYBq2or004~*005uZGl)SB3XU0zz4%dmZLesHKF~c5#ivRX>J@J"
        "bi$~~oOwNB@w~jQX4x|i(GlXnK$9SSwrnq1eJ}HpJ7{M*i2LO;!h3-WBw`0V+B_RVhB?PxLnQe7qge^zGv-ozTX+}J^MXFBFY|39d|LZ"
        "j|M_yCT<qOrNl$;jXDT~*=wm=jP`2v2;qYr_MqL70D0>F^o&{pfdm}lq8zaN|Rpy-`u^Mx`9gJ|xCefj5cuh8a({STUr>voUL&$@0<W_"
        "5X_A?nQP`Zfr%mWST<QgVkkAyZt8XCYMOBKTV~IXhKi?NMOiU=?{@=goR;#PyzAEPLT6)GQ31Ty%SAYCv*IQ&ROzl(=JPb7@k;k9IG1)"
        "5u`?!GW#cgV=RTVE!G=H}Ezhm}iCIqhw}q+n;KeE5loX$_s(P;BZbYcja`tFUwyT&hd2+-<MQ|&r9XRMw#1<?E<*N;GJ?<tqH8JeFcGC"
        "!1(fy(1nUyX?y2d+<*",
        2194751457,
    ),
}
