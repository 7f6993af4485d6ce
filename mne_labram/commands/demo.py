"""``mne-labram demo``: the whole way on a made-up recording, without network or files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import typer
from mne import Annotations
from mne.io import BaseRaw

from mne_labram.commands.files import event_lines, write_annotations, write_page

__all__ = ["run_demo"]

#: The model is trained before this second and annotates what follows.
_SPLIT = 300.0
_WINDOW = 4.0
# Begin at 0.8, end below 0.5, drop what is shorter than 10 s: what published seizure detectors do.
_RULES = {"threshold": 0.8, "release": 0.5, "min_duration": 10.0}


def run_demo(folder: Path, *, seed: int = 0, epochs: int = 12) -> Path:
    """Make a recording, fine-tune a small LaBraM on its first half, annotate the second.

    Parameters
    ----------
    folder : Path
        Is made if it does not exist; the files in it are replaced.
    seed : int
        Seed of the recording and of the training.
    epochs : int
        Passes over the training windows.

    Returns
    -------
    page : Path
        The HTML page.
    """
    import mne

    from mne_labram.benchmark.synthetic import simulate_recording
    from mne_labram.decoding.page import annotation_report
    from mne_labram.decoding.scores import add_annotations
    from mne_labram.training.windows import annotated_windows
    from mne_labram.verbs import annotate_events

    started = time.perf_counter()
    mne.set_log_level("warning")
    folder.mkdir(parents=True, exist_ok=True)
    typer.echo("1/4  Making a 10-minute recording of 19 channels with three seizure-like events ...")
    raw = simulate_recording(seed=seed)
    training, rest = raw.copy().crop(0, _SPLIT, include_tmax=False), raw.copy().crop(_SPLIT, None)

    typer.echo(f"2/4  Training a small LaBraM on the first {_SPLIT:.0f} s (no pretrained weights) ...")
    X, y, ch_names = annotated_windows(training, "seizure", window=_WINDOW, stride=1.0)
    classifier = train(X, y, ch_names, seed=seed, epochs=epochs)

    typer.echo(f"3/4  Annotating the other {raw.times[-1] - _SPLIT:.0f} s ...")
    found, scores = annotate_events(rest, classifier, class_names=["background", "seizure"], **_RULES)
    truth = _after_first_sample(rest)
    rest_annotated = rest.copy().set_annotations(None)
    add_annotations(rest_annotated, found)

    typer.echo("4/4  Writing ...")
    events = event_lines(scores)
    summary = [
        f"Trained on {len(y)} windows of {_WINDOW:g} s ({int(y.sum())} with an event), {epochs} passes, seed {seed}.",
        *(f"annotated before {onset:6.0f} s to {onset + length:6.0f} s" for onset, length in _times(truth)),
        *(f"found    {line}" for line in events),
        "The recording is made up: this shows that everything works, and nothing about patients.",
    ]
    page = annotation_report(
        rest_annotated,
        scores,
        title="mne-labram demo",
        truth=truth,
        details={"Summary": "\n".join(summary), "Processing": str(scores.report)},
    )
    files = {name: folder / name for name in ("demo-annot.fif", "demo_events.tsv", "demo.html")}
    write_annotations(rest_annotated, scores, files["demo-annot.fif"], overwrite=True)
    write_annotations(rest_annotated, scores, files["demo_events.tsv"], overwrite=True)
    write_page(page, files["demo.html"], overwrite=True)
    for line in summary:
        typer.echo(f"     {line}")
    for path in files.values():
        typer.echo(f"     {path.resolve()}")
    typer.echo(f"Done in {time.perf_counter() - started:.0f} s.")
    return files["demo.html"]


def train(X: np.ndarray, y: np.ndarray, ch_names: list[str], *, seed: int, epochs: int) -> object:
    """Train the small configuration on labelled windows with Braindecode's classifier.

    Parameters
    ----------
    X : ndarray, shape (n_windows, n_chans, n_times)
        Microvolts at 200 Hz.
    y : ndarray of int, shape (n_windows,)
        0 or 1.
    ch_names : list of str
        Channels of ``X``.
    seed : int
        Seed of the initial weights and of the order of the windows.
    epochs : int
        Passes over the windows.

    Returns
    -------
    classifier : braindecode.EEGClassifier
        Fitted.
    """
    from braindecode import EEGClassifier
    from skorch.callbacks import Callback
    from tqdm import tqdm

    class Progress(Callback):
        """A bar that grows with the passes."""

        def on_train_begin(self, net: object, **kwargs: object) -> None:
            self.bar = tqdm(total=epochs, desc="     Training", unit="pass")

        def on_epoch_end(self, net: object, **kwargs: object) -> None:
            self.bar.set_postfix(loss=f"{net.history[-1]['train_loss']:.3f}")
            self.bar.update()

        def on_train_end(self, net: object, **kwargs: object) -> None:
            self.bar.close()

    # Events are rare: each class weighs the same in the loss.
    weight = torch.tensor(len(y) / (2.0 * np.bincount(y, minlength=2)), dtype=torch.float32)
    classifier = EEGClassifier(
        "LabramForClassification",
        module__ch_names=ch_names,
        module__size="small",
        module__sfreq=200.0,
        module__patch_embed="conv+spectrum",
        module__drop_path_prob=0.1,
        criterion__weight=weight,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        optimizer__weight_decay=0.05,
        batch_size=32,
        max_epochs=epochs,
        train_split=None,
        callbacks=[Progress()],
        verbose=0,
    )
    # The seed must not change the state of the user's own random numbers.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return classifier.fit(X, y)


def _after_first_sample(raw: BaseRaw) -> Annotations:
    """Return the annotations with onsets counted from the first sample."""
    annotations = raw.annotations.copy()
    annotations.onset = annotations.onset - raw.first_time
    return annotations


def _times(annotations: Annotations) -> list[tuple[float, float]]:
    return list(zip(annotations.onset, annotations.duration, strict=True))
