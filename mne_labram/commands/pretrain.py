"""``mne-labram pretrain``: train a model on recordings without labels, as a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["pretrain"]


def pretrain(
    kind: Annotated[
        str, typer.Argument(help="tokenizer, masked, codec, gram-tokenizer, gram, spatial-filter or amplitude.")
    ],
    config: Annotated[str, typer.Argument(help="A recipe (.toml), or one that ships: tiny, base, ...")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A folder, BIDS data set or file; may be given several times. The recipe's by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the weights and logs; CONFIG-KIND by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint, if any.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="For masked and gram: a checkpoint, the folder of a pre-training, or a name.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Weights to begin with, likewise; fresh ones, or the recipe's, by default.")
    ] = None,
    exclude_subjects: Annotated[
        str | None, typer.Option(help="Subjects to leave out, separated by commas: S001 or dataset/S001.")
    ] = None,
    validation_subjects: Annotated[str | None, typer.Option(help="Subjects to validate on, likewise.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the windows, instead of the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Fewer steps than the epochs have.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop in good order after so many minutes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything, instead of the recipe's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of conformed recordings; OUT/cache by default.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Recordings conformed in parallel.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, no, bf16 or fp16, instead of the recipe's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU if there is one by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="Torch threads.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write logs for TensorBoard too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Pre-train a tokenizer, a masked model, a codec, Gram or EEGFoundation on recordings."""
    import os

    import mne

    # How torchaudio was made to import is for those who import it.
    mne.set_log_level("error")
    import torch

    from mne_labram.training.recipe_run import run_recipe
    from mne_labram.training.recipes import load_recipe, with_training

    # Of several processes, one speaks.
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    mne.set_log_level("error" if quiet else "info")
    recipe = with_training(
        load_recipe(config, kind, seed=seed),
        epochs=epochs,
        max_steps=max_steps,
        max_minutes=max_minutes,
        precision=precision,
        tensorboard=tensorboard or None,
    )
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}.")
        torch.set_num_threads(threads)
    try:
        done = run_recipe(
            recipe,
            Path(recipe.name) if out is None else out,
            data=data,
            tokenizer=tokenizer,
            start=start,
            exclude_subjects=_names(exclude_subjects),
            validation_subjects=_names(validation_subjects),
            cache=cache,
            n_jobs=jobs,
            resume=resume,
            device=device,
        )
    except KeyboardInterrupt as interrupt:
        # Ctrl-C or SIGTERM; the sentence says how to go on.
        typer.echo(str(interrupt) or "Stopped.", err=True)
        raise typer.Exit(130) from None
    if not quiet:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in done.metrics.items() if name in _SHOWN)
        typer.echo(f"{done.step} step(s), {shown}: {done.weights}")


_SHOWN = (
    "loss",
    "accuracy",
    "epoch_codebook_usage",
    "epoch_codebook_perplexity",
    "validation_loss",
    "validation_accuracy",
    "validation_codebook_usage",
    "validation_codebook_perplexity",
)


def _names(text: str | None) -> list[str]:
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]
