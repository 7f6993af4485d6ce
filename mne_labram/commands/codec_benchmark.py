"""``mne-labram benchmark codec``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["codec_benchmark"]

_CODECS = "dct,dct-variable,wavelet,klt,klt-tuned,neural,hybrid"


def codec_benchmark(
    data: Annotated[Path, typer.Option(help="The folder that holds eegmat, eegmmidb and chbmit.")] = Path(
        "../shared/data"
    ),
    bitrates: Annotated[str, typer.Option(help="Bits per second and channel, separated by commas.")] = (
        "64,128,256,512,1024"
    ),
    codecs: Annotated[str, typer.Option(help="What is compared, separated by commas.")] = _CODECS,
    classify: Annotated[
        str, typer.Option(help="Codecs after which windows are classified, separated by commas; '' for none.")
    ] = "hybrid,neural",
    classify_bitrate: Annotated[float, typer.Option(help="Bits per second and channel of that.")] = 512.0,
    speed: Annotated[
        str, typer.Option(help="Modes whose time is measured on an hour, separated by commas; '' for none.")
    ] = "hybrid,neural,lossless",
    hours: Annotated[float, typer.Option(help="Length of that recording.")] = 1.0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes that compress it.")] = 1,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Also write everything as JSON here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the JSON file if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the tables.")] = False,
) -> None:
    """Bits and errors of the codecs beside those to beat; windows classified after them; time and memory."""
    import mne

    from mne_labram._files import checked_ending
    from mne_labram.commands.files import check_writable

    if json is not None:
        checked_ending(json, "The file of what was measured", ".json")
        check_writable(json, overwrite)
    mne.set_log_level("error")
    from mne_labram.benchmark.codec_page import codec_benchmark_page

    mne.set_log_level("error" if quiet else "info")
    try:
        rates = [float(rate) for rate in _listed(bitrates)]
    except ValueError:
        raise ValueError(f"--bitrates must be numbers separated by commas, got {bitrates!r}.") from None
    page, found = codec_benchmark_page(
        data,
        codecs=_listed(codecs),
        bitrates=rates,
        classify=_listed(classify),
        classify_bitrate=classify_bitrate,
        speed=_listed(speed),
        hours=hours,
        jobs=jobs,
        threads=threads,
    )
    if json is not None:
        from json import dumps

        from mne_labram._files import written_whole

        with written_whole(json, overwrite=overwrite) as temporary:
            temporary.write_text(dumps(found, indent=1), encoding="utf8")
    typer.echo(page)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
