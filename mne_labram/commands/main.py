"""The command ``mne-labram``. Thin: each command reads its arguments, calls the library and writes a file."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from mne_labram.commands.codec_benchmark import codec_benchmark
from mne_labram.commands.compress import compress, decompress
from mne_labram.commands.decoding_benchmark import decoding_benchmark
from mne_labram.commands.detect import detect
from mne_labram.commands.localize import localize
from mne_labram.commands.lossless_benchmark import lossless_benchmark
from mne_labram.commands.pretrain import pretrain
from mne_labram.commands.restoration_benchmark import restoration_benchmark
from mne_labram.commands.restore import restore
from mne_labram.commands.seizures import loso, score
from mne_labram.commands.simulate_benchmark import simulate_benchmark
from mne_labram.commands.simulate_sources import simulate_sources
from mne_labram.commands.source_benchmark import source_benchmark

__all__ = ["app", "run"]

#: Arguments of functions that are options of commands too, as the library's sentences recommend them.
_ARGUMENT = re.compile(r"\b(assume_unit|channels|device|errors|gaps|groups|match|unlabelled)='(\w+)'")

app = typer.Typer(
    name="mne-labram",
    help="EEG foundation models on recordings: check, embed, tokenise, annotate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Input = Annotated[Path, typer.Argument(help="A recording: anything mne.io.read_raw reads, or *-epo.fif.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A checkpoint (.safetensors) or a name of mne-labram info.")]
Classifier = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A checkpoint (.safetensors); the seizure detector that ships by default."),
]
Unit = Annotated[str | None, typer.Option(help="Unit of the numbers where the file's is wrong: V, mV, uV, nV.")]
Match = Annotated[str, typer.Option(help="'name', or 'position' for electrodes with coordinates but foreign names.")]
LineFreq = Annotated[float | None, typer.Option(help="Line frequency in Hz: 50 or 60.")]
Gaps = Annotated[str, typer.Option(help="'raise' or 'split': what to do with a discontinuous EDF+D file.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bf16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; where the checkpoint loads by default: cpu.")]
Batch = Annotated[int, typer.Option(help="Windows per forward pass.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Window = Annotated[float | None, typer.Option(help="Window in seconds; the model's by default.")]
Channels = Annotated[str, typer.Option(help="'recording' (all that have an embedding) or 'model' (its own).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def run() -> None:
    """Run the command line; errors are one sentence and exit code 2, warnings are one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = app(standalone_mode=False)
        sys.exit(code)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.stderr.write(f"mne-labram: {_sentence(error)}\n")
        sys.exit(2)
    except typer.Abort:
        sys.stderr.write("mne-labram: stopped.\n")
        sys.exit(130)
    except Exception as error:
        # Click's own usage errors come with the usage line and their exit code, 2.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise


def _sentence(error: BaseException) -> str:
    """Return the error's text on one line, with options as they are typed."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    text = _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')} {found[2]}", " ".join(str(error).split()))
    return text.replace("resume=False", "--no-resume")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    # Where in the package a warning was given is of no use in a shell.
    sys.stderr.write(f"mne-labram: warning: {_sentence(message)}\n")


def _quiet(quiet: bool) -> None:
    import mne

    # How torchaudio was made to import is for those who import it.
    mne.set_log_level("error")
    import braindecode  # noqa: F401

    mne.set_log_level("error" if quiet else "info")


@app.command()
def check(
    recording: Input,
    assume_unit: Unit = None,
    match: Match = "name",
    line_freq: LineFreq = None,
    gaps: Gaps = "raise",
) -> None:
    """Say what a model would get from a recording, without running one. Exit code 2 if it would be refused."""
    from mne_labram.signal.check import check as check_recording

    report = check_recording(recording, assume_unit=assume_unit, match=match, line_freq=line_freq, gaps=gaps)
    if not report.ok:
        raise typer.Exit(2)


@app.command()
def annotate(
    recording: Input,
    output: Annotated[Path, typer.Argument(help="*-annot.fif, .tsv, .csv or .txt; *raw.fif holds the signal too.")],
    model: Classifier = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability at which an event begins; 0.5, or the detector's.")
    ] = None,
    smoothing: Annotated[
        float | None, typer.Option(help="Moving average of the scores (s); 5, or the detector's.")
    ] = None,
    merge_gap: Annotated[
        float | None, typer.Option(help="Events closer than this are merged (s); 10, or the detector's.")
    ] = None,
    min_duration: Annotated[float | None, typer.Option(help="Shortest event (s); 5, or the detector's.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML page.")] = None,
    release: Annotated[
        float | None, typer.Option(help="Probability below which an event ends; 0.625 of the threshold by default.")
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(help="Names of the classes, separated by commas; the model's by default.")
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Name of the class that is not annotated; the first by default.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Step between windows (s); 1, or half a detector's window.")
    ] = None,
    window: Window = None,
    channels: Annotated[
        str | None, typer.Option(help="'model', 'recording' or 'montage' (10-20, double banana).")
    ] = None,
    assume_unit: Unit = None,
    match: Match = "name",
    line_freq: LineFreq = None,
    gaps: Gaps = "raise",
    precision: Precision = "auto",
    batch_size: Batch = 32,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find events in a recording and write them down: seizures, unless a classifier of your own says otherwise."""
    _quiet(quiet)
    from mne_labram.commands.files import check_writable, write_annotations, write_page
    from mne_labram.commands.system import system_lines
    from mne_labram.decoding.page import annotation_report
    from mne_labram.decoding.scores import add_annotations
    from mne_labram.signal.conform import open_recording
    from mne_labram.verbs import annotate_events

    check_writable(output, overwrite, annotations=True)
    if output.exists() and recording.exists() and output.samefile(recording):
        raise ValueError(f"{output} is the recording itself; give the output another name.")
    if report is not None:
        check_writable(report, overwrite)
    raw = open_recording(recording)
    found, scores = annotate_events(
        raw,
        model,
        threshold,
        release=release,
        smoothing=smoothing,
        merge_gap=merge_gap,
        min_duration=min_duration,
        class_names=None if class_names is None else [name.strip() for name in class_names.split(",")],
        background=0 if background is None else background,
        stride=stride,
        window=window,
        channels=channels,
        assume_unit=assume_unit,
        match=match,
        line_freq=line_freq,
        gaps=gaps,
        precision=precision,
        batch_size=batch_size,
        device=device,
    )
    annotated = raw.copy()
    add_annotations(annotated, found, scores.existing)
    write_annotations(annotated, scores, output, overwrite=overwrite)
    if report is not None:
        details = {"Processing": str(scores.report), "Versions of mne-labram": "\n".join(system_lines())}
        page = annotation_report(annotated, scores, title=recording.name, details=details)
        write_page(page, report, overwrite=overwrite)
    if not quiet:
        n_events = len(scores.annotations(mark_not_analysed=False))
        missing = int((~scores.analysed).sum())
        typer.echo(f"{n_events} event(s) in {scores.duration:.0f} s, {missing} s not analysed: {output}")


@app.command()
def embed(
    recording: Input,
    output: Annotated[Path, typer.Argument(help=".npz: embedding, ch_names, and what was done to the signal.")],
    model: Model = "labram-tiny",
    pooling: Annotated[str, typer.Option(help="mean, cls, channels or tokens.")] = "mean",
    window: Window = None,
    channels: Channels = "recording",
    assume_unit: Unit = None,
    match: Match = "name",
    line_freq: LineFreq = None,
    gaps: Gaps = "raise",
    precision: Precision = "auto",
    batch_size: Batch = 32,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Embed a recording window by window."""
    _quiet(quiet)
    from mne_labram.commands.files import check_writable, write_arrays
    from mne_labram.verbs import labram_embed

    check_writable(output, overwrite, arrays=True)
    out, report = labram_embed(
        recording,
        model,
        pooling,
        window=window,
        channels=channels,
        assume_unit=assume_unit,
        match=match,
        line_freq=line_freq,
        gaps=gaps,
        precision=precision,
        batch_size=batch_size,
        device=device,
        return_report=True,
    )
    write_arrays(output, report, overwrite=overwrite, embedding=out)
    if not quiet:
        typer.echo(f"embedding {out.shape} of {len(report.ch_names)} channels: {output}")


@app.command()
def tokenize(
    recording: Input,
    output: Annotated[Path, typer.Argument(help=".npz: codes, ch_names, and what was done to the signal.")],
    model: Model = "labram-tokenizer-tiny",
    window: Window = None,
    channels: Channels = "recording",
    assume_unit: Unit = None,
    match: Match = "name",
    line_freq: LineFreq = None,
    gaps: Gaps = "raise",
    precision: Precision = "float32",
    batch_size: Batch = 32,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Turn a recording into integer codes, one per channel and patch."""
    _quiet(quiet)
    from mne_labram.commands.files import check_writable, write_arrays
    from mne_labram.verbs import labram_tokenize

    check_writable(output, overwrite, arrays=True)
    out, report = labram_tokenize(
        recording,
        model,
        window=window,
        channels=channels,
        assume_unit=assume_unit,
        match=match,
        line_freq=line_freq,
        gaps=gaps,
        precision=precision,
        batch_size=batch_size,
        device=device,
        return_report=True,
    )
    write_arrays(output, report, overwrite=overwrite, codes=out)
    if not quiet:
        typer.echo(f"codes {out.shape} of {len(report.ch_names)} channels: {output}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="An official checkpoint (.pth, .bin) or its .safetensors.")],
    output: Annotated[Path, typer.Argument(help="The checkpoint to write (.safetensors).")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="classification, masked, tokenizer, codec, gram, gram-tokenizer, gram-classification, amplitude or "
            "amplitude-classification; read off the keys."
        ),
    ] = None,
    ch_names: Annotated[
        str | None,
        typer.Option(help="Channels to bind, separated by commas; those of the 10-20 system, and none for a codec."),
    ] = None,
    window: Annotated[float, typer.Option(help="Window to bind, in seconds.")] = 4.0,
    num_heads: Annotated[int | None, typer.Option(help="Attention heads, where the file does not tell.")] = None,
    n_outputs: Annotated[int | None, typer.Option(help="Outputs of a fresh head, where the file has none.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert weights of LaBraM, BrainCodec, Gram or EEGFoundation (RoFormer) to safetensors; nothing is executed."""
    from mne_labram.weights import convert_official

    options = {"kind": kind, "num_heads": num_heads, "n_outputs": n_outputs, "window": window}
    if ch_names is not None:
        options["ch_names"] = [name.strip() for name in ch_names.split(",")]
    convert_official(source, output, overwrite=overwrite, **options)
    typer.echo(str(output))


@app.command()
def info(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A checkpoint, or the name of weights that ship; without one, versions.")
    ] = None,
) -> None:
    """Describe a checkpoint or shipped weights; or print versions (for a bug report) and the names that ship."""
    from mne_labram.weights import describe_checkpoint, list_pretrained, pretrained_card

    if checkpoint is None:
        from mne_labram.commands.system import system_lines

        typer.echo("\n".join(system_lines()))
        typer.echo(f"{'Weights':<16}{', '.join(list_pretrained()) or 'none'}")
        return
    if checkpoint in list_pretrained() and not Path(checkpoint).is_file():
        from mne_labram.weights.cards import card_page

        typer.echo(card_page(pretrained_card(checkpoint)), nl=False)
        return
    import json

    if not Path(checkpoint).exists() and not Path(checkpoint).suffix:
        raise ValueError(
            f"There is neither a file nor a pretrained model of the name {checkpoint!r}; those that ship are "
            f"{', '.join(list_pretrained())}."
        )
    for key, value in describe_checkpoint(checkpoint).items():
        typer.echo(f"{key:<16}{value if isinstance(value, (str, int, float)) else json.dumps(value)}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the annotations and the page go.")] = Path("mne-labram-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the recording and of the training.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the training windows.")] = 12,
) -> None:
    """Make a recording, fine-tune a small model on one half, annotate the other. No network, no file."""
    from mne_labram.commands.demo import run_demo

    run_demo(folder, seed=seed, epochs=epochs)


app.command()(compress)
app.command()(decompress)
app.command()(detect)
app.command()(pretrain)
app.command()(restore)
app.command()(score)
app.command()(loso)
app.command()(localize)
app.command()(simulate_sources)


@app.command()
def cache(
    recordings: Annotated[list[Path], typer.Argument(help="Folders, BIDS data sets or files.")],
    folder: Annotated[Path, typer.Option("--cache", "-c", help="Folder that holds the conformed recordings.")],
    assume_unit: Unit = None,
    match: Match = "name",
    line_freq: LineFreq = None,
    gaps: Gaps = "split",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Recordings conformed at a time; -1 for all cores.")] = 1,
    strict: Annotated[bool, typer.Option(help="Stop at a recording that cannot be read, rather than skip it.")] = False,
    quiet: Quiet = False,
) -> None:
    """Conform recordings once, for training: what is in the cache already is not made again."""
    import mne

    from mne_labram.signal.store import RecordingStore

    mne.set_log_level("error" if quiet else "info")
    source = recordings[0] if len(recordings) == 1 else recordings
    found = RecordingStore(source, errors="raise" if strict else "skip", n_jobs=jobs)
    options = {"assume_unit": assume_unit, "match": match, "line_freq": line_freq, "gaps": gaps}
    conformed = found.conform(cache=folder, n_jobs=jobs, **options)
    if not quiet:
        typer.echo(
            f"{len(conformed)} recordings, {conformed.n_hours:.3g} h, {len(conformed.skipped)} skipped: {folder}"
        )


benchmark = typer.Typer(help="Tables of speed, each with ratios against a peer in the same run.", no_args_is_help=True)
app.add_typer(benchmark, name="benchmark")


@benchmark.command()
def speed(
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Windows per forward pass.")] = 32,
    seconds: Annotated[float, typer.Option(help="Seconds to measure each row.")] = 10.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Windows per second of LaBraM base against Braindecode's Labram with the same weights."""
    from mne_labram.benchmark.speed import speed_table

    typer.echo(speed_table(threads=threads, batch_size=batch_size, seconds=seconds, device=device))


@benchmark.command()
def memory(
    hours: Annotated[list[float], typer.Option(help="Lengths of the recordings in hours.")] = [1.0, 24.0],  # noqa: B006
    size: Annotated[str, typer.Option(help="Configuration of the model.")] = "small",
    stride: Annotated[float, typer.Option(help="Step between windows in seconds.")] = 1.0,
) -> None:
    """Peak memory of annotating a recording of one hour and of a day."""
    from mne_labram.benchmark.memory import memory_table

    typer.echo(memory_table(hours, size=size, stride=stride))


@benchmark.command()
def store(
    files: Annotated[int, typer.Option(help="Number of files.")] = 24,
    hours: Annotated[float, typer.Option(help="Length of each file in hours.")] = 1.0,
    seconds: Annotated[float, typer.Option(help="Seconds of one turn.")] = 0.25,
    rounds: Annotated[int, typer.Option(help="Turns of each way of reading.")] = 12,
) -> None:
    """Windows per second and peak memory of reading many files, against three ways of MNE's."""
    from mne_labram.benchmark.store import store_table

    typer.echo(store_table(files=files, hours=hours, seconds=seconds, rounds=rounds))


@benchmark.command(name="detect")
def detect_benchmark(
    hours: Annotated[float, typer.Option(help="Length of the recording in hours.")] = 24.0,
    channels: Annotated[int, typer.Option(help="Channels, 10 to 19.")] = 19,
    sfreq: Annotated[float, typer.Option(help="Sampling rate in Hz.")] = 256.0,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    model: Classifier = None,
) -> None:
    """Time and peak memory of finding seizures in a day of EEG, from the file to the table and the page."""
    from mne_labram.benchmark.detect import detect_table

    typer.echo(detect_table(hours=hours, channels=channels, sfreq=sfreq, threads=threads, model=model))


benchmark.command(name="codec")(codec_benchmark)
benchmark.command(name="lossless")(lossless_benchmark)
benchmark.command(name="restoration")(restoration_benchmark)
benchmark.command(name="source")(source_benchmark)
benchmark.command(name="decoding")(decoding_benchmark)
benchmark.command(name="simulate")(simulate_benchmark)
