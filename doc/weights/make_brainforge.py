"""How brainforge-tiny was made: train on simulated windows, measure, write files and cards.

Run from the top of the repository; nothing is needed but the package for training (hours on one core), and
../shared/data for the rows of real recordings:

    python doc/weights/make_brainforge.py train --runs RUNS
    python doc/weights/make_brainforge.py heads --runs RUNS
    mne-labram benchmark source --model RUNS/brainforge-heads/final.safetensors --json RUNS/measured/source.json
    python doc/weights/make_brainforge.py ship --runs RUNS
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mne
import numpy as np

from mne_labram import BrainForgeInverse, load_checkpoint
from mne_labram.source.bank_making import default_bank
from mne_labram.source.head import SourceModel, source_model
from mne_labram.source.headmodel import default_forward, perturbed_forward
from mne_labram.source.metrics import bootstrap_interval
from mne_labram.source.simulate import SourceSimulator
from mne_labram.weights import pretrained_card, ship_weights
from mne_labram.weights.cards import card_page

PAGES = Path(__file__).parent
#: Electrodes: the whole, of which each batch's windows have all, or one of the parts.
WHOLE = mne.channels.make_standard_montage("biosemi64").ch_names
PARTS = (
    mne.channels.make_standard_montage("biosemi32").ch_names,
    "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split(),
)
#: Brain, skull and scalp in S/m: what the head is thought to be, and what it may be instead. The benchmark's is none.
CONDUCTIVITIES = ((0.3, 0.006, 0.3), (0.3, 0.003, 0.3), (0.3, 0.012, 0.3), (0.4, 0.02, 0.4))
#: Seconds of a window; what is there twice is taken twice as often.
LENGTHS = (0.4, 1.0, 1.0, 2.0)
STEPS, BATCH = 6000, 16
#: The second part of the training: heads whose electrodes lie otherwise to the brain, since nobody's is the template.
HEADS, HEADS_STEPS = 12, 1500
OTHERWISE = {"jitter_mm": 2.0, "turn_deg": 4.0, "stretch": 0.04, "shift_mm": 4.0}
#: What stands on the card of every window.
SHOWN = {
    "localization_mm": "localisation, mm",
    "peak_mm": "largest peak, mm",
    "assigned_mm": "as many peaks as sources, mm",
    "dispersion_mm": "dispersion, mm",
    "auc": "AUC",
    "auc_close": "AUC, close",
    "f1_otsu": "F1, Otsu",
    "correlation": "r",
}


def simulators(seed: int = 0) -> list[SourceSimulator]:
    """Make what windows are drawn from: four times as many sources as are estimated, in heads that conduct otherwise.

    Parameters
    ----------
    seed : int
        Of what simulators draw once.

    Returns
    -------
    simulators : list of SourceSimulator
        One for each of :data:`LENGTHS`.
    """
    info = mne.create_info(WHOLE, 100.0, "eeg")
    estimated = source_model(default_forward(info))
    fine = [
        source_model(perturbed_forward(info, jitter_mm=0.0, spacing="ico4", bem_ico=3, conductivity=each))
        for each in CONDUCTIVITIES
    ]
    made = {
        seconds: SourceSimulator(
            fine[0], default_bank(), estimated=estimated, forwards=fine[1:], conductivity_spread=0.7, seconds=seconds,
            snr_db=(-2.0, 22.0), noise=("white", "coloured"), subsets=PARTS, seed=seed,
        )
        for seconds in dict.fromkeys(LENGTHS)
    }  # fmt: skip
    return [made[seconds] for seconds in LENGTHS]


def other_heads(estimated: SourceModel, seed: int = 0) -> list[SourceSimulator]:
    """Make simulators through heads that are not the template, which is all that is known.

    Parameters
    ----------
    estimated : SourceModel
        The template.
    seed : int
        Of the heads.

    Returns
    -------
    simulators : list of SourceSimulator
        One for each head, of windows of 1 s.
    """
    info = mne.create_info(WHOLE, 100.0, "eeg")
    made: list[SourceSimulator] = []
    for number in range(HEADS):
        conductivity = CONDUCTIVITIES[number % len(CONDUCTIVITIES)]
        rng = np.random.default_rng((seed, number))
        fwd = perturbed_forward(info, spacing="ico4", bem_ico=3, conductivity=conductivity, seed=rng, **OTHERWISE)
        model = source_model(fwd)
        if made:
            model.share_distances(made[0].model)
        made.append(
            SourceSimulator(
                model, default_bank(), estimated=estimated, snr_db=(-2.0, 22.0), noise=("white", "coloured"),
                subsets=PARTS, seed=seed,
            )
        )  # fmt: skip
    return made


def heads(runs: Path, steps: int, seed: int, resume: bool) -> None:
    """Go on with the trained weights, a quarter of the batches through the template's own head."""
    drawn = simulators(seed)
    drawn += other_heads(drawn[0].estimated, seed)
    inverse = BrainForgeInverse(drawn[0].estimated, model=runs / "brainforge" / "final.safetensors")
    inverse.fit(
        drawn, steps=steps, batch_size=BATCH, seed=seed + 1, folder=runs / "brainforge-heads", resume=resume,
        verbose="INFO",
    )  # fmt: skip


def train(runs: Path, steps: int, seed: int, resume: bool) -> None:
    """Train fresh weights; what was begun is gone on with by ``resume``."""
    drawn = simulators(seed)
    inverse = BrainForgeInverse(drawn[0].estimated, model=None, seed=seed)
    inverse.fit(
        drawn, steps=steps, batch_size=BATCH, seed=seed, folder=runs / "brainforge", resume=resume, verbose="INFO"
    )


def tables(path: Path) -> dict[str, Any]:
    """Put what ``benchmark source`` wrote into the tables of a card."""
    found = json.loads(path.read_text(encoding="utf8"))
    out: dict[str, Any] = {
        "How it was measured": (
            f"{found['n_windows']} windows of 1 s for each case, simulated through {found['n_heads']} heads that are "
            "not the one everything is imaged with: four times as many sources, other conductivities, a finer "
            "boundary element model, electrodes 3 mm off; with waveforms of neural masses of another seed than the "
            "training's. "
            "All methods are told the covariance of the noise, and MNE's the SNR. Localisation: the mean of the "
            "distances from sources to peaks and from peaks to sources, of all peaks above 30 % of the largest. "
            "Intervals are those of the mean, 95 %, by bootstrap over windows. The truth: what is simulated, in the "
            "source space of the estimates."
        )
    }
    rows = found["rows"]
    for montage in dict.fromkeys(row["montage"] for row in rows):
        own = [row for row in rows if row["montage"] == montage]
        number, _, whose = montage.partition(", ")
        title = f"{number} electrodes{f', simulated through {whose}' if whose else ''}"
        out[f"{title}: localisation in mm, by sources and SNR"] = [
            {
                "method": method,
                **{
                    f"{row['n_sources']}, {row['snr_db']:g} dB": interval(row["values"]["localization_mm"])
                    for row in own
                    if row["method"] == method
                },
            }
            for method in dict.fromkeys(row["method"] for row in own)
        ]
        out[f"{title}: one to three sources, mean and spread over all windows"] = [
            {"method": method, **summary([row["values"] for row in own if row["method"] == method])}
            for method in dict.fromkeys(row["method"] for row in own)
        ]
    silence = found["silence"]
    out["Nothing but noise: energy at the electrodes of what is found, over that of the window (none is right)"] = [
        {
            "method": method,
            "covariance of the noise": "known" if known else "not known",
            **{
                f"{row['montage']}, {row['noise']}": percent(row["shares"])
                for row in silence
                if (row["method"], row["known"]) == (method, known)
            },
        }
        for method, known in dict.fromkeys((row["method"], row["known"]) for row in silence)
    ]
    if found["ictal"]:
        out["Seizures of one patient (DeepSIF's P2), through the published template, against the resection"] = [
            {
                "method": row["method"],
                "centre of mass, mm": f"{row['center_of_mass_mm']:.1f}",
                "spread, mm": f"{row['spread_mm']:.1f}",
                "energy inside": f"{row['inside']:.0%}",
                "of what is above half": f"{row['inside_above_half']:.0%}",
            }
            for row in found["ictal"]
        ]
    if found["sides"]:
        out["MNE's sample subject, 75 to 130 ms: share of the energy opposite to the stimulus (half is chance)"] = [
            {
                "method": row["method"],
                "head": row["head"],
                **{name: f"{share:.0%}" for name, share in row["shares"].items()},
            }
            for row in found["sides"]
        ]
    return out


def percent(shares: list[float]) -> str:
    """Write mean and spread of shares."""
    return f"{100 * np.mean(shares):.1f} ± {100 * np.std(shares):.1f} %"


def interval(values: list[float]) -> str:
    """Write a mean and its interval."""
    mean, low, high = bootstrap_interval(values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def summary(values: list[dict[str, list[float]]]) -> dict[str, str]:
    """Write mean and spread over windows."""
    out = {}
    for name, title in SHOWN.items():
        every = np.array([each for row in values for each in row[name]], dtype=float)
        every = every[np.isfinite(every)]
        digits = 1 if name.endswith("_mm") else 2
        out[title] = f"{every.mean():.{digits}f} ± {every.std():.{digits}f}"
    return out


def ship(runs: Path) -> None:
    """Put the weights into the package, with a card of what was measured."""
    about = json.loads((PAGES / "brainforge-tiny.about.json").read_text(encoding="utf8"))
    path = runs / "measured" / "source.json"
    measured = tables(path) if path.is_file() else {}
    network = load_checkpoint(runs / "brainforge-heads" / "final.safetensors")
    ship_weights(network, "brainforge-tiny", {**about, "measurements": measured})
    (PAGES / "brainforge-tiny.md").write_text(card_page(pretrained_card("brainforge-tiny")), encoding="utf8")


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "heads", "ship"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, help=f"{STEPS} of train, {HEADS_STEPS} of heads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.what == "train":
        train(options.runs, options.steps or STEPS, options.seed, options.resume)
    elif options.what == "heads":
        heads(options.runs, options.steps or HEADS_STEPS, options.seed, options.resume)
    else:
        ship(options.runs)


if __name__ == "__main__":
    main()
