"""``mne-labram score`` and ``mne-labram loso``: detections against references, and detectors on unseen subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["loso", "score"]


def score(
    reference: Annotated[Path, typer.Argument(help="BIDS folder with sub-*/**/*_events.tsv, or one such file.")],
    hypothesis: Annotated[Path, typer.Argument(help="Folder with the same tree of detections, or one file.")],
    json: Annotated[Path | None, typer.Option(help="Also write all numbers to a JSON file.")] = None,
    errors: Annotated[
        str, typer.Option(help="Detections that are missing or unreadable: 'report' (and score as none) or 'raise'.")
    ] = "report",
    masks: Annotated[
        str, typer.Option(help="Times that are no whole seconds: 'timescoring' rounds, 'szcore' cuts off.")
    ] = "timescoring",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the JSON file if it exists.")] = False,
) -> None:
    """Score detections by SzCORE's rules: per subject, mean over subjects and pooled."""
    from mne_labram._files import checked_ending
    from mne_labram.commands.files import check_writable
    from mne_labram.seizure.scoring import score as score_folders

    if json is not None:
        checked_ending(json, "The file of scores", ".json")
        check_writable(json, overwrite)
    scores = score_folders(reference, hypothesis, errors=errors, masks=masks)
    if json is not None:
        scores.to_json(json, overwrite=overwrite)
    typer.echo(str(scores))


def loso(
    recordings: Annotated[list[Path], typer.Argument(help="A BIDS data set; also folders or files with labels.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; finished folds in it are not run again.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Folds at a time; -1 for all cores.")] = 1,
    subjects: Annotated[
        str | None, typer.Option(help="Subjects to test, separated by commas; the others are trained on every time.")
    ] = None,
    target_fp_per_day: Annotated[
        float | None, typer.Option(help="False alarms a day to accept; the threshold of the best F1 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of training.")] = 0,
    groups: Annotated[str, typer.Option(help="Leave out a 'subject' or a 'recording' at a time.")] = "subject",
    folds: Annotated[int | None, typer.Option(help="K-fold by subject, rather than one at a time.")] = None,
    validation_subjects: Annotated[
        int | None, typer.Option(help="Subjects who choose weights and threshold; a fifth by default.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The encoder to begin with: a checkpoint or a name.")
    ] = "labram-tiny",
    max_steps: Annotated[int | None, typer.Option(help="Training steps, instead of the detector's.")] = None,
    unlabelled: Annotated[
        str, typer.Option(help="Recordings without labels: 'skip', 'background' (no seizure) or 'raise'.")
    ] = "skip",
    cache: Annotated[Path | None, typer.Option(help="Folder of conformed recordings; OUT/cache by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU if there is one by default.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the folds in OUT; --no-resume begins anew.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a detector without each subject in turn and score it on that subject."""
    from functools import partial

    import mne

    # Now, not after a data set was conformed for hours.
    for name, value, least in (
        ("seed", seed, 0),
        ("folds", folds, 2),
        ("validation-subjects", validation_subjects, 0),
        ("max-steps", max_steps, 1),
        ("target-fp-per-day", target_fp_per_day, 0),
    ):
        if value is not None and not value >= least:
            raise ValueError(f"--{name} must be {least} or more, got {value}.")
    if jobs == 0:
        raise ValueError("--jobs must be a number of processes, or -1 for all cores, got 0.")
    if groups not in ("subject", "recording"):
        raise ValueError(f"--groups must be 'subject' or 'recording', got {groups!r}.")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give the folder of the results another name.")

    # How torchaudio was made to import is for those who import it.
    mne.set_log_level("error")
    from mne_labram.seizure.braincodec_detector import detector_class
    from mne_labram.seizure.evaluation import leave_one_subject_out
    from mne_labram.seizure.store import SeizureStore

    mne.set_log_level("error" if quiet else "info")
    settings = None if max_steps is None else {"max_steps": max_steps}
    factory = partial(detector_class(model), model, settings=settings, device=device)
    store = SeizureStore.open(
        recordings[0] if len(recordings) == 1 else recordings,
        factory().contract,
        unlabelled=unlabelled,
        cache=out / "cache" if cache is None else cache,
        n_jobs=jobs,
    )
    evaluation = leave_one_subject_out(
        store,
        factory,
        folder=out,
        subjects=None if subjects is None else [name.strip() for name in subjects.split(",") if name.strip()],
        groups=groups,
        n_folds=folds,
        n_validation_subjects=validation_subjects,
        target_fp_per_day=target_fp_per_day,
        seed=seed,
        n_jobs=jobs,
        resume=resume,
    )
    if not quiet:
        typer.echo(str(evaluation))
