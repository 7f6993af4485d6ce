"""Integer samples of many channels predicted from what has been decoded before, in integer arithmetic only.

Three predictors stand one behind the other. A linear predictor that all channels share, computed by the encoder and
stored, removes what the recording's filters have put in (EEG is often sampled far above its band, so that the spectrum
of the samples falls by 90 dB: nothing that adapts converges on them as they are). Its residual is predicted by
least squares from all channels' last residuals and from those of this very sample that are already known: a vector
autoregression, solved anew every 64 samples from what the decoder knows too, so that no coefficient is stored.
The rest goes through a normalised least-mean-squares filter per channel, which follows quick changes.

Encoder and decoder run the same compiled function, and it has no floating-point number in it: files can be read on
any machine.
"""

from __future__ import annotations

import numpy as np

from mne_labram._compiled import compiled

__all__ = [
    "COEFFICIENT_BITS",
    "MAX_COEFFICIENT",
    "FRACTION_BITS",
    "MAX_GROUP",
    "plan_prediction",
    "regressor_lags",
    "run_predictors",
    "shared_predictor",
]

#: Channels that are predicted from each other; more than that are cut into groups.
MAX_GROUP = 64
#: Fractional bits of the stored coefficients, and how large they may be.
COEFFICIENT_BITS, MAX_COEFFICIENT = 16, 2**22
#: Fractional bits of predictions and of residuals as regressors: rounding noise well below that of the samples.
FRACTION_BITS = 3
#: Regressors are clipped here; products of two, summed over a frame and over the memory, then fit into 64 bits.
_LIMIT = 2**20
#: Samples between two solutions, and how many frames the statistics remember (as a power of two).
_FRAME, _MEMORY_BITS = 64, 7
#: Fractional bits of the weights of both adaptive stages.
_WEIGHT_BITS, _TAP_BITS = 22, 24
#: Length of the last filter; its step is 2 to the power of minus this (of the normalised error).
_TAPS, _STEP_BITS = 32, 7
_ONE = 1 << 30


def regressor_lags(n_channels: int) -> int:
    """Return how many past samples of every channel of a group of ``n_channels`` predict the present one."""
    return max(1, min(32, 128 // n_channels))


def shared_predictor(x: np.ndarray, order: int, steps: np.ndarray | int = 0) -> np.ndarray:
    """Fit one linear predictor to all channels.

    Parameters
    ----------
    x : ndarray of int64, shape (n_samples, n_channels)
        Samples.
    order : int
        Number of past samples; below 3 the predictor is fixed (the last sample, or the line through the last two).
    steps : ndarray of int64, shape (n_channels,) | int
        Largest error of the samples that the predictor will be given.

    Returns
    -------
    coefficients : ndarray of int64, shape (order,)
        Of the last sample, the one before ..., times 2 to the power of :data:`COEFFICIENT_BITS`.

    Notes
    -----
    Least squares by the covariance method (Makhoul 1975, Linear prediction: a tutorial review, section II-C), with each
    channel weighted by one over its residual in the round before; and again with each piece of each channel weighted,
    in which pieces with jumps count for nothing. Computed in floating-point numbers; what is stored is rounded, so that
    the decoder need not compute the same.
    """
    if order < 3:
        return np.array([(), (1,), (2, -1)][order], dtype=np.int64) << COEFFICIENT_BITS
    n_samples, n_channels = x.shape
    # Some 32768 rows say enough. Pieces are weighted one by one, so that a jump of the signal spoils only its own.
    step = max(1, n_samples * n_channels // 32768)
    rows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), order + 1, axis=0)[::step]
    pieces = np.array_split(rows, min(16, max(1, len(rows) // 32)))
    grams = np.stack([np.einsum("tci,tcj->cij", piece, piece, optimize=True) / len(piece) for piece in pieces])
    # Rounding to multiples of 2 s + 1 adds white noise.
    noise = np.broadcast_to(((2.0 * np.asarray(steps) + 1) ** 2 - 1) / 12, n_channels)
    grams += noise[:, None, None] * np.eye(order + 1)
    best, least = np.zeros(order), np.inf
    for robust in (False, True):
        vector = np.append(np.zeros(order - 2), [1.0, -2.0, 1.0])
        energies = np.einsum("i,pcij,j->pc", vector, grams, vector)
        for _ in range(4):
            usual = np.median(energies, axis=0) + 1 / 3
            if robust:
                # Silence is no better evidence than the usual signal, and a jump is none: it would be all that counts.
                weights = np.minimum(1, 4 * usual / energies.clip(1e-9)) ** 2 / np.maximum(energies, usual / 4)
            else:
                weights = np.broadcast_to(1 / np.maximum(energies.mean(axis=0), usual / 4), energies.shape)
            gram = np.einsum("pc,pcij->ij", weights, grams)
            gram /= max(np.trace(gram) / (order + 1), 1e-300)
            solution = np.linalg.lstsq(gram[:order, :order] + 1e-14 * np.eye(order), gram[:order, order], rcond=None)[0]
            vector = np.append(-solution, 1.0)
            energies = np.einsum("i,pcij,j->pc", vector, grams, vector)
        # Bits are a sum of logarithms. What comes next makes better use of a fit to everything, unless it is spoiled.
        bits = np.log(energies.clip(0) + 1 / 3).mean()
        if bits < least - 0.1:
            best, least = solution, bits
    coefficients = np.rint(np.nan_to_num(best[::-1]) * 2**COEFFICIENT_BITS)
    return np.clip(coefficients, -MAX_COEFFICIENT, MAX_COEFFICIENT).astype(np.int64)


@compiled
def _clip(value, limit):
    return min(max(value, -limit), limit)


@compiled
def _bit_length(value):
    length = 0
    while value > 0:
        value >>= 1
        length += 1
    return length


@compiled
def _integer_sqrt(value):
    """Return the root of a number below 2**60, rounded down, found bit by bit."""
    root = np.int64(0)
    for place in range(29, -1, -1):
        larger = root + (np.int64(1) << place)
        if larger * larger <= value:
            root = larger
    return root


@compiled
def _add_frame(gram, flat, start, stop, n_channels, n_lags, shift):
    """Add the products of all regressors over samples ``start`` to ``stop``, as if row by row.

    Row and column ``a * n_channels + c`` stand for channel c, ``n_lags - a`` samples ago; below the diagonal only.
    """
    size = (n_lags + 1) * n_channels
    frame = np.zeros((size, size), dtype=np.int64)
    for t in range(start, stop):
        first = t * n_channels
        for c in range(n_channels):
            value = np.int64(flat[first + n_lags * n_channels + c])
            row = frame[n_lags * n_channels + c]
            for m in range(size):
                row[m] += value * np.int64(flat[first + m])
    # Of regressors that are both one sample older, the products are the same but for the first and the last.
    before, after = start * n_channels, stop * n_channels
    for a in range(n_lags * n_channels - 1, -1, -1):
        head, tail = np.int64(flat[before + a]), np.int64(flat[after + a])
        for b in range(a + 1):
            changed = head * np.int64(flat[before + b]) - tail * np.int64(flat[after + b])
            frame[a, b] = frame[a + n_channels, b + n_channels] + changed
    for a in range(size):
        for b in range(a + 1):
            gram[a, b] += frame[a, b] >> shift


@compiled
def _louder(frame_errors, usual_errors, length):
    """Take in the errors of a frame; return by how many bits its products are to be shifted down."""
    n_channels = frame_errors.size
    octaves = 0
    for c in range(n_channels):
        mean = (frame_errors[c] << 8) // length + 256
        frame_errors[c] = 0
        if usual_errors[c] == 0:
            usual_errors[c] = mean
        octaves += _bit_length(mean) - _bit_length(usual_errors[c])
        # What is far beyond the usual changes it little.
        usual_errors[c] += (min(mean, 8 * usual_errors[c]) - usual_errors[c]) >> 4
    return min(max(2 * octaves // n_channels, 0), 40)


@compiled
def _solve(gram, factor, shifts, weights, n_channels, n_lags, seen):
    """Write the weights of every channel's least-squares prediction: one Cholesky factor serves all channels.

    Fixed-point numbers with 30 fractional bits; every regressor is scaled by a power of two to below 1, so that no row
    of the factor is longer than 1 and no sum of products overflows.
    """
    size = (n_lags + 1) * n_channels
    for i in range(size):
        # The less has been seen, and the older a regressor is, the more its weight is drawn to zero.
        age = n_lags - i // n_channels
        loaded = gram[i, i] + (gram[i, i] >> 17) + gram[i, i] // (4 * (seen + 1)) * (age + 1) ** 3 + 512
        shifts[i] = (_bit_length(loaded) + 1) // 2
        for j in range(i + 1):
            value = loaded if i == j else gram[i, j]
            shift = 30 - shifts[i] - shifts[j]
            value = value << shift if shift >= 0 else value >> -shift
            total = np.int64(0)
            for k in range(j):
                total += np.int64(factor[i, k]) * np.int64(factor[j, k])
            rest = (value << 30) - total
            if i == j:
                # Nothing of its own: left out, by a column without anything below.
                factor[i, i] = _integer_sqrt(rest) if rest > (1 << 36) else 0
            elif factor[j, j] > 0:
                factor[i, j] = _clip(rest // np.int64(factor[j, j]), _ONE)
            else:
                factor[i, j] = 0
    rest = np.zeros(size, dtype=np.int64)
    for c in range(n_channels):
        row = n_lags * n_channels + c
        for k in range(row):
            rest[k] = np.int64(factor[row, k]) << _WEIGHT_BITS
        for k in range(row - 1, -1, -1):
            weight = np.int64(0)
            if factor[k, k] > 0:
                weight = _clip(rest[k] // np.int64(factor[k, k]), 1 << 28)
            for j in range(k):
                rest[j] -= weight * np.int64(factor[k, j])
            shift = shifts[row] - shifts[k]
            weight = weight << min(shift, 30) if shift >= 0 else weight >> min(-shift, 62)
            weights[c, k] = _clip(weight, 2**31 - 1)


@compiled
def run_predictors(decoding, samples, residuals, coefficients, warm_up, start_order, n_lags, down, steps, low, high):
    """Predict every sample, and write residuals (encoding) or samples (decoding).

    Parameters
    ----------
    decoding : bool
        Which of the two arrays is read, and which written.
    samples : ndarray of int64, shape (n_samples, n_channels)
        Samples; on return, also when encoding, as they will be decoded.
    residuals : ndarray of int64, shape (n_samples, n_channels)
        Prediction errors, in steps of ``2 * steps + 1``.
    coefficients : ndarray of int64, shape (order,)
        :func:`shared_predictor`.
    warm_up : int
        First samples, from which nothing is learned: the step from nothing to a signal is not like the rest.
    start_order : int
        How these are predicted: 0, 1 or 2 for the polynomial through as many samples, 3 for ``coefficients`` on a past
        of zeros.
    n_lags : int
        Past samples of all channels in the least squares.
    down : int
        Bits by which regressors are shifted down.
    steps : ndarray of int64, shape (n_channels,)
        Largest error.
    low, high : ndarray of int64, shape (n_channels,)
        Smallest and largest sample there may be.

    Notes
    -----
    Least squares on the past, solved again and again: backward-adaptive linear prediction, with a solution shared by
    all channels because the regressors of the next one are those of the last one and one more, so that the rows of one
    Cholesky factor hold them all. Normalised LMS: Widrow and Hoff 1960; Nagumo and Noda 1967. Quantising the error of
    prediction inside the loop bounds that of the samples (Weinberger, Seroussi and Sapiro 2000, LOCO-I, section IV).
    """
    n_samples, n_channels = samples.shape
    order = coefficients.size
    size = (n_lags + 1) * n_channels
    # n_lags rows of zeros stand before the first sample.
    flat = np.zeros((n_samples + n_lags) * n_channels, dtype=np.int32)
    gram = np.zeros((size, size), dtype=np.int64)
    factor = np.zeros((size, size), dtype=np.int32)
    shifts = np.zeros(size, dtype=np.int64)
    weights = np.zeros((n_channels, size), dtype=np.int32)
    taps = np.zeros((n_channels, _TAPS), dtype=np.int64)
    errors = np.zeros((n_channels, n_samples + _TAPS), dtype=np.int32)
    power = np.zeros(n_channels, dtype=np.int64)
    shared = np.zeros(n_channels, dtype=np.int64)
    frame_errors = np.zeros(n_channels, dtype=np.int64)
    usual_errors = np.zeros(n_channels, dtype=np.int64)
    frame_start, frame_stop = warm_up, warm_up + 16
    for t in range(n_samples):
        learning = t >= warm_up
        shared[:] = 0
        for k in range(min(order, t)):
            for c in range(n_channels):
                shared[c] += coefficients[k] * samples[t - 1 - k, c]
        for c in range(n_channels):
            first, second = np.int64(0), np.int64(0)
            base = shared[c] >> (COEFFICIENT_BITS - FRACTION_BITS)
            if learning:
                begin = t * n_channels
                for m in range(n_lags * n_channels + c):
                    first += np.int64(weights[c, m]) * np.int64(flat[begin + m])
                first = _clip(first >> _WEIGHT_BITS, _LIMIT)
                for k in range(_TAPS):
                    second += taps[c, k] * np.int64(errors[c, t + k])
                second = _clip(second >> _TAP_BITS, _LIMIT)
            elif start_order == 0 or t == 0:
                base = np.int64(0)
            elif start_order == 1 or (start_order == 2 and t == 1):
                base = samples[t - 1, c] << FRACTION_BITS
            elif start_order == 2:
                base = (2 * samples[t - 1, c] - samples[t - 2, c]) << FRACTION_BITS
            predicted = base + ((first + second) << down)
            predicted = (predicted + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS
            predicted = min(max(predicted, low[c]), high[c])
            step = 2 * steps[c] + 1
            if decoding:
                residual = residuals[t, c]
            else:
                residual = samples[t, c] - predicted
                if step > 1:
                    if residual >= 0:
                        residual = (residual + steps[c]) // step
                    else:
                        residual = -((steps[c] - residual) // step)
                residuals[t, c] = residual
            sample = min(max(predicted + residual * step, low[c]), high[c])
            samples[t, c] = sample
            if not learning:
                continue
            own = _clip(((sample << FRACTION_BITS) - base) >> down, _LIMIT)
            flat[(t + n_lags) * n_channels + c] = own
            error = _clip(own - first, _LIMIT)
            frame_errors[c] += abs(error)
            gain = (_clip(error - second, 2 + 8 * (usual_errors[c] >> 8)) << 30) // (power[c] + 1)
            for k in range(_TAPS):
                change = (gain * np.int64(errors[c, t + k])) >> (30 + _STEP_BITS - _TAP_BITS)
                taps[c, k] = _clip(taps[c, k] + change, 1 << 31)
            oldest = np.int64(errors[c, t])
            errors[c, t + _TAPS] = error
            power[c] += error * error - oldest * oldest
        if t + 1 == frame_stop:
            if frame_stop - warm_up > _FRAME:
                for a in range(size):
                    for b in range(a + 1):
                        gram[a, b] -= gram[a, b] >> _MEMORY_BITS
            shift = _louder(frame_errors, usual_errors, frame_stop - frame_start)
            _add_frame(gram, flat, frame_start, frame_stop, n_channels, n_lags, shift)
            _solve(gram, factor, shifts, weights, n_channels, n_lags, frame_stop - warm_up)
            frame_start = frame_stop
            frame_stop += min(frame_stop - warm_up, _FRAME)


def plan_prediction(samples: np.ndarray, steps: np.ndarray | int = 0) -> tuple[np.ndarray, int, int, int, int]:
    """Choose what the decoder cannot know.

    Parameters
    ----------
    samples : ndarray of int64, shape (n_samples, n_channels)
        A group of channels, as differences to their first sample.
    steps : ndarray of int64, shape (n_channels,) | int
        Largest error they will be decoded with.

    Returns
    -------
    coefficients, warm_up, start_order, n_lags, down : ndarray, int, int, int, int
        Arguments of :func:`run_predictors`.
    """
    n_samples, n_channels = samples.shape
    order = 32 if n_samples >= 512 else 8 if n_samples >= 64 else 1
    coefficients = shared_predictor(samples, order, steps)
    # What the shared predictor leaves: of the first samples, and of some 2000 after them.
    padded = np.concatenate([np.zeros((order, n_channels)), samples[: order + 2048]])
    past = np.lib.stride_tricks.sliding_window_view(padded, order + 1, axis=0)
    left = np.abs(past @ np.append(-coefficients[::-1] / 2**COEFFICIENT_BITS, 1.0))
    start, rest = left[1:order], left[order:]
    typical = rest.mean() if rest.size else 0.0
    warm_up, start_order = 0, 3
    if start.size and start.mean() > 4 * typical + 1:
        warm_up = order
        first = samples[:order].astype(np.float64)
        costs = [np.abs(np.diff(first, n, axis=0)).mean() if len(first) > n else np.inf for n in range(3)]
        costs.append(start.mean())
        start_order = int(np.argmin(costs))
    spread = np.sqrt((rest**2).mean()) if rest.size else 0.0
    bits = int(np.ceil(np.log2(max(spread, 1.0) * 16 * 2**FRACTION_BITS)))
    return coefficients, warm_up, start_order, regressor_lags(n_channels), max(0, bits - 20)
