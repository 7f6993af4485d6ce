"""The loops of the Jansen-Rit simulation, compiled: single precision, 64 trajectories side by side.

Everything that is compiled stands in this file: numba keeps what it compiled until the file changes, and does not look
at other files that the code came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from mne_labram._compiled import compiled

__all__ = ["LANES", "advance", "fill_normals", "sort_out"]

#: Trajectories of a call. As their number is known to the compiler, and a multiple of every vector's length, each is
#: computed by the same instructions wherever it stands. Loops of 16 and 32 are unrolled before they become vectors,
#: and twice to four times slower.
LANES = 64

# Numba makes double precision of a literal beside a number in single precision, so every number has its type.
_f = np.float32
_u = np.uint32
# exp: ln(2) in two parts, of which products of the first with small whole numbers are exact (Cody & Waite 1980,
# Software Manual for the Elementary Functions, chapter 6); terms of Taylor's series.
_ONE, _TWO, _HALF = _f(1), _f(2), _f(0.5)
_LOG2E, _LN2_HIGH, _LN2_LOW = _f(np.log2(np.e)), _f(0.693359375), _f(np.log(2) - 0.693359375)
_E2, _E3, _E4, _E5, _E6 = _f(1 / 2), _f(1 / 6), _f(1 / 24), _f(1 / 120), _f(1 / 720)
_LARGEST = _f(60)
# Logarithm (series of artanh), sine and cosine (Taylor's), from -45 to 45 degrees.
_LN2, _ROOT_HALF = _f(np.log(2)), _f(np.sqrt(0.5))
_L3, _L5, _L7 = _f(2 / 3), _f(2 / 5), _f(2 / 7)
_TINY = _f(2.0**-24)
_ANGLE, _QUARTER = _f(np.pi / 2 * 2.0**-22), _f(np.pi / 4)
_S3, _S5, _S7 = _f(-1 / 6), _f(1 / 120), _f(-1 / 5040)
_C2, _C4, _C6, _C8 = _f(-1 / 2), _f(1 / 24), _f(-1 / 720), _f(1 / 40320)
#: Philox4x32-10: Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_S32 = np.uint64(32)
_ZERO_U, _LOW_22, _SIGN = _u(0), _u((1 << 22) - 1), np.int32(-(2**31))


@intrinsic
def _as_float(typingctx: Any, x: Any) -> Any:
    """Read the 32 bits of an integer as a number in single precision."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def _as_int(typingctx: Any, x: Any) -> Any:
    """Read the 32 bits of a number in single precision as an integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


def _logistic(x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))``: exp as a power of two and a Taylor series of its remainder, at most ln(2) / 2."""
    z = min(max(-x, -_LARGEST), _LARGEST)
    k = np.floor(z * _LOG2E + _HALF)
    r = (z - k * _LN2_HIGH) - k * _LN2_LOW
    power = _ONE + r * (_ONE + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    scale = _as_float(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))
    return _ONE / (_ONE + power * scale)


_logistic = compiled(_logistic, error_model="numpy", contract=True)


def _radius(word: Any) -> Any:
    """Return ``sqrt(-2 ln u)``, u in (0, 1] made of the upper 24 bits of a word; ln(m) as 2 artanh((m - 1)/(m + 1))."""
    u = (_f(np.int32(_u(word >> _u(8)))) + _ONE) * _TINY
    bits = _as_int(u)
    exponent = np.int32((bits >> np.int32(23)) - np.int32(127))
    m = _as_float(np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))) * _HALF
    # m in [1/2, 1): brought to within the square root of 2 of 1.
    small = m < _ROOT_HALF
    m = m + m if small else m
    whole = _f(exponent) if small else _f(exponent) + _ONE
    s = (m - _ONE) / (m + _ONE)
    q = s * s
    log = whole * _LN2 + s * (_TWO + q * (_L3 + q * (_L5 + q * _L7)))
    return np.sqrt(max(-_TWO * log, _f(0)))


_radius = compiled(_radius, error_model="numpy", contract=True)


def _round(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    p0, p1 = _M0 * np.uint64(c0), _M1 * np.uint64(c2)
    return _u(_u(p1 >> _S32) ^ c1 ^ k0), _u(p1), _u(_u(p0 >> _S32) ^ c3 ^ k1), _u(p0)


_round = compiled(_round, error_model="numpy", contract=True)


def _words(key: Any, step: Any, group: Any, first: Any, words: Any) -> None:
    """Philox4x32-10, its rounds written out: the compiler makes vectors of innermost loops only."""
    k0, k1 = key[0], key[1]
    k2, k3 = _u(k0 + _W0), _u(k1 + _W1)
    k4, k5 = _u(k2 + _W0), _u(k3 + _W1)
    k6, k7 = _u(k4 + _W0), _u(k5 + _W1)
    k8, k9 = _u(k6 + _W0), _u(k7 + _W1)
    k10, k11 = _u(k8 + _W0), _u(k9 + _W1)
    k12, k13 = _u(k10 + _W0), _u(k11 + _W1)
    k14, k15 = _u(k12 + _W0), _u(k13 + _W1)
    k16, k17 = _u(k14 + _W0), _u(k15 + _W1)
    k18, k19 = _u(k16 + _W0), _u(k17 + _W1)
    for lane in range(LANES):
        c0, c1, c2, c3 = _u(step), _u(group), _u(_u(first) + _u(lane)), _ZERO_U
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k2, k3)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k4, k5)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k6, k7)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k8, k9)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k10, k11)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k12, k13)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k14, k15)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k16, k17)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k18, k19)
        words[0, lane], words[1, lane], words[2, lane], words[3, lane] = c0, c1, c2, c3


_words = compiled(_words, error_model="numpy", contract=True)


def fill_normals(key: Any, step: Any, group: Any, first: Any, words: Any, normals: Any) -> None:
    """Write the normal numbers of four regions and `LANES` trajectories at one step.

    Parameters
    ----------
    key : ndarray of uint32, shape (2,)
        The seed.
    step, group, first : uint32
        Number of the step, of the group of four regions, and of the first trajectory.
    words : ndarray of uint32, shape (4, LANES)
        Written to: random words.
    normals : ndarray of float32, shape (4, LANES)
        Written to.

    Notes
    -----
    Counters (step, group, trajectory, 0) through Philox4x32-10; of each pair of words two numbers by Box and Muller
    (1958). :func:`mne_labram.source.counter_normals.counter_normals` is the same in double precision.
    """
    _words(key, step, group, first, words)
    for pair in range(2):
        for lane in range(LANES):
            radius = _radius(words[2 * pair, lane]) * _ROOT_HALF
            word = words[2 * pair + 1, lane]
            # Upper two bits: signs; bits 8 to 29: where in the quarter of the circle, from -45 to 45 degrees.
            t = (_f(np.int32((word >> _u(8)) & _LOW_22)) + _HALF) * _ANGLE - _QUARTER
            q = t * t
            sine = t * (_ONE + q * (_S3 + q * (_S5 + q * _S7)))
            cosine = _ONE + q * (_C2 + q * (_C4 + q * (_C6 + q * _C8)))
            signs = np.int32(word)
            x, y = _as_int(radius * (cosine - sine)), _as_int(radius * (cosine + sine))
            normals[2 * pair, lane] = _as_float(np.int32(x ^ ((signs << np.int32(1)) & _SIGN)))
            normals[2 * pair + 1, lane] = _as_float(np.int32(y ^ (signs & _SIGN)))


fill_normals = compiled(fill_normals, error_model="numpy", contract=True)


def _add_rates(
    place: Any, first: Any, last: Any, sources: Any, delays: Any, weights: Any, ring: Any, drive: Any
) -> None:
    """Sum what arrives over edges `first` to `last`, four edges at a time: their number is a multiple of four."""
    n_slots, n_regions = ring.shape[0], ring.shape[1]
    rates = ring.reshape(-1)
    for lane in range(LANES):
        drive[lane] = _f(0)
    for e in range(first, last, 4):
        s0, s1, s2, s3 = place - delays[e], place - delays[e + 1], place - delays[e + 2], place - delays[e + 3]
        s0 = s0 + n_slots if s0 < 0 else s0
        s1 = s1 + n_slots if s1 < 0 else s1
        s2 = s2 + n_slots if s2 < 0 else s2
        s3 = s3 + n_slots if s3 < 0 else s3
        a0, a1 = LANES * (s0 * n_regions + sources[e]), LANES * (s1 * n_regions + sources[e + 1])
        a2, a3 = LANES * (s2 * n_regions + sources[e + 2]), LANES * (s3 * n_regions + sources[e + 3])
        r0, r1, r2, r3 = rates[a0 : a0 + LANES], rates[a1 : a1 + LANES], rates[a2 : a2 + LANES], rates[a3 : a3 + LANES]
        w0, w1, w2, w3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
        for lane in range(LANES):
            drive[lane] += (w0 * r0[lane] + w1 * r1[lane]) + (w2 * r2[lane] + w3 * r3[lane])


_add_rates = compiled(_add_rates, error_model="numpy", contract=True)


def _heun(y: Any, rate: Any, gain: Any, drive: Any, normal: Any, constants: Any, fired: Any) -> None:
    """Make one step of one region: `y`, of shape (6 * LANES,), and `fired` are written to."""
    dt, a, b, B, mu = constants[0], constants[1], constants[2], constants[3], constants[4]
    r, v0, peak = constants[5], constants[6], constants[7]
    to_excitatory, from_excitatory = constants[8], constants[9]
    to_inhibitory, from_inhibitory = constants[10], constants[11]
    strength, sigma = constants[12], constants[13]
    half = _HALF * dt
    aa, bb, a2, b2, Bb = a * a, b * b, _TWO * a, _TWO * b, B * b
    for lane in range(LANES):
        y0, y1, y2 = y[lane], y[lane + LANES], y[lane + 2 * LANES]
        y3, y4, y5 = y[lane + 3 * LANES], y[lane + 4 * LANES], y[lane + 5 * LANES]
        Aa = gain[lane] * a
        inputs = mu + strength * drive[lane]
        kick = sigma * normal[lane]
        # The rate of the pyramidal cells is what the ring holds of the present.
        d3 = Aa * rate[lane] - a2 * y3 - aa * y0
        d4 = Aa * (inputs + from_excitatory * _logistic(r * (to_excitatory * y0 - v0))) - a2 * y4 - aa * y1
        d5 = Bb * (from_inhibitory * _logistic(r * (to_inhibitory * y0 - v0))) - b2 * y5 - bb * y2
        # Euler's step, noise included, and the slope there.
        z0, z1, z2 = y0 + dt * y3, y1 + dt * y4, y2 + dt * y5
        z3, z4, z5 = y3 + dt * d3, y4 + dt * d4 + kick, y5 + dt * d5
        e3 = Aa * (peak * _logistic(r * (z1 - z2 - v0))) - a2 * z3 - aa * z0
        e4 = Aa * (inputs + from_excitatory * _logistic(r * (to_excitatory * z0 - v0))) - a2 * z4 - aa * z1
        e5 = Bb * (from_inhibitory * _logistic(r * (to_inhibitory * z0 - v0))) - b2 * z5 - bb * z2
        y0, y1, y2 = y0 + half * (y3 + z3), y1 + half * (y4 + z4), y2 + half * (y5 + z5)
        y[lane], y[lane + LANES], y[lane + 2 * LANES] = y0, y1, y2
        y[lane + 3 * LANES] = y3 + half * (d3 + e3)
        y[lane + 4 * LANES] = y4 + half * (d4 + e4) + kick
        y[lane + 5 * LANES] = y5 + half * (d5 + e5)
        fired[lane] = peak * _logistic(r * (y1 - y2 - v0))


_heun = compiled(_heun, error_model="numpy", contract=True)


def advance(
    state: Any,
    ring: Any,
    place: int,
    step: int,
    n_steps: int,
    excitability: Any,
    starts: Any,
    sources: Any,
    delays: Any,
    weights: Any,
    constants: Any,
    key: Any,
    first: int,
    keep: int,
    out: Any,
) -> None:
    """Carry `LANES` trajectories on by Heun's method.

    Parameters
    ----------
    state : ndarray of float32, shape (n_regions, 6, LANES)
        y0 to y5 in mV and mV/ms; written to.
    ring : ndarray of float32, shape (n_slots, n_regions, LANES)
        Firing rates in 1/ms at the steps before; the newest in slot `place`; written to.
    place, step, n_steps : int
        Slot of the present, number of steps made since the beginning, steps to make.
    excitability : ndarray of float32, shape (n_regions, LANES)
        A in mV.
    starts, sources, delays, weights : ndarray
        Edges by target region: int32 of shape (n_regions + 1,), int32, int32 (steps) and float32 of shape (n_edges,).
    constants : ndarray of float32, shape (14,)
        As `mne_labram.source.jansen_rit` packs them.
    key : ndarray of uint32, shape (2,)
        The seed.
    first : int
        Number of the first of the trajectories.
    keep : int
        Every how many steps ``y1 - y2`` is kept.
    out : ndarray of float32, shape (n_steps // keep, n_regions, LANES)
        Written to, in mV.
    """
    n_regions, n_slots = state.shape[0], ring.shape[0]
    # Rows of known length, of arrays of one dimension: the compiler sees that they do not overlap.
    states, rates, gains = state.reshape(-1), ring.reshape(-1), excitability.reshape(-1)
    normals = np.zeros((4, LANES), dtype=np.float32)
    kicks = normals.reshape(-1)
    words = np.zeros((4, LANES), dtype=np.uint32)
    drive = np.zeros(LANES, dtype=np.float32)
    noisy = constants[13] > _f(0)
    for k in range(n_steps):
        after = place + 1 if place + 1 < n_slots else 0
        for i in range(n_regions):
            _add_rates(place, starts[i], starts[i + 1], sources, delays, weights, ring, drive)
            if noisy and i % 4 == 0:
                fill_normals(key, step + k, i // 4, first, words, normals)
            y = states[6 * LANES * i : 6 * LANES * (i + 1)]
            now = LANES * (place * n_regions + i)
            row = LANES * (i % 4)
            gain = gains[LANES * i : LANES * (i + 1)]
            # The slot of the future is not read before all regions have moved: delays are shorter than the ring.
            then = LANES * (after * n_regions + i)
            _heun(
                y,
                rates[now : now + LANES],
                gain,
                drive,
                kicks[row : row + LANES],
                constants,
                rates[then : then + LANES],
            )
        if (k + 1) % keep == 0:
            kept = (k + 1) // keep - 1
            for i in range(n_regions):
                for lane in range(LANES):
                    out[kept, i, lane] = state[i, 1, lane] - state[i, 2, lane]
        place = after


advance = compiled(advance, error_model="numpy", contract=True)


def sort_out(out: Any, signals: Any, first: int) -> None:
    """Bring what `advance` kept into the order it is returned in.

    Parameters
    ----------
    out : ndarray of float32, shape (n_kept, n_regions, LANES)
        From `advance`.
    signals : ndarray of float32, shape (n_trajectories, n_regions, n_times)
        Written to, from time `first` on; at most `LANES` trajectories.
    first : int
        First time.
    """
    for i in range(out.shape[1]):
        # A region's samples at a time: what is read once is still there when the next trajectory needs it.
        for lane in range(signals.shape[0]):
            for kept in range(out.shape[0]):
                signals[lane, i, first + kept] = out[kept, i, lane]


sort_out = compiled(sort_out)
