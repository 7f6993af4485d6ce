"""What ten seconds of 22 channels cost EEGFoundation: the table of eegfoundation.md.

Every line is a process of its own with one thread. Milliseconds are of the processor, so that other work on the machine
counts little; megabytes are the peak of the process above what it had with the model in memory. The peer is
transformers' RoFormerModel of the same size with a token per sample, on one second of two channels; it and ours take
turns, and what is compared is the time for a second of a channel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SECONDS, SFREQ = 10, 200
PEER_SECONDS, PEER_CHANNELS = 1, 2
# The electrodes of BCI Competition IV 2a.
CH_NAMES = "FZ FC3 FC1 FCZ FC2 FC4 C5 C3 C1 CZ C2 C4 C6 CP3 CP1 CPZ CP2 CP4 P1 PZ P2 POZ".split()
OPTIONS = {
    # As eegfoundation-tiny has them.
    "patches": {
        "amplitude": "mulaw",
        "masking": "span",
        "smoothing": 20.0,
        "spectral_weight": 10.0,
        "fusion_layers": 1,
    },
    # As published.
    "samples": {},
}
# Size, input, what, and channels at a time. With "samples" and without fusion, channels do not meet: where all 22 take
# more memory or minutes than there are, one is measured.
LINES = [
    *((size, "patches", what, 22) for size in ("tiny", "student", "base") for what in ("forward", "training")),
    *(("tiny", "samples", what, 22) for what in ("forward", "training")),
    *((size, "samples", what, 1) for size in ("student", "base") for what in ("forward", "training")),
]


def main() -> None:
    """Print the table, or measure one line of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--line", help=argparse.SUPPRESS)
    line = parser.parse_args().line
    if line is not None:
        sys.stdout.write(json.dumps(measure(*json.loads(line))) + "\n")
        return
    sys.stdout.write(
        "| size | input | | channels at a time | ms | MB | times the peer |\n|---|---|---|---|---|---|---|\n"
    )
    for arguments in LINES:
        command = [sys.executable, __file__, "--line", json.dumps(arguments)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{found['milliseconds']:.0f}", f"{found['megabytes']:.0f}", f"{found['ratio']:.3f}"]
        sys.stdout.write("| " + " | ".join([*map(str, arguments), *cells]) + " |\n")
        sys.stdout.flush()


def measure(size: str, kind: str, what: str, n_chans: int) -> dict[str, float]:
    """Measure one line."""
    import torch

    from mne_labram import EEGFoundationForMaskedModeling

    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = CH_NAMES[:n_chans]
    x = 20 * torch.randn(1, n_chans, SECONDS * SFREQ)
    model = EEGFoundationForMaskedModeling(ch_names=names, size=size, input=kind, **OPTIONS[kind])
    ours = _pass(model, what, lambda: model.embed(x), lambda: model.training_step(x)["loss"])
    before = _resident()
    for _ in range(1 if what == "forward" else 2):  # the second step has the optimizer's averages, too
        ours()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    peer = _peer(size, what)
    peer()
    took = np.array([[_seconds(ours), _seconds(peer)] for _ in range(3)])
    per_second = took / [n_chans * SECONDS, PEER_CHANNELS * PEER_SECONDS]
    ratio = float(np.median(per_second[:, 0] / per_second[:, 1]))
    return {"milliseconds": 1e3 * float(np.median(took[:, 0])), "megabytes": megabytes, "ratio": ratio}


def _peer(size: str, what: str) -> Callable[[], None]:
    """Make the pass of transformers' model."""
    import torch

    from mne_labram._compat import repair_torchaudio
    from mne_labram.models.eegfoundation.encoder import SIZES

    repair_torchaudio()  # transformers imports it
    from transformers import RoFormerConfig, RoFormerModel

    body, hidden_dim = SIZES[size].body, SIZES[size].hidden_dim
    model = RoFormerModel(
        RoFormerConfig(
            vocab_size=2006,
            pad_token_id=2002,
            hidden_size=body.embed_dim,
            num_hidden_layers=body.num_layers,
            num_attention_heads=body.num_heads,
            intermediate_size=hidden_dim,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=2000,
        )
    )
    codes = torch.randint(2000, (PEER_CHANNELS, PEER_SECONDS * SFREQ))
    return _pass(model, what, lambda: model(codes), lambda: model(codes).last_hidden_state.square().mean())


def _pass(model: object, what: str, forward: Callable, loss: Callable) -> Callable[[], None]:
    """Make a function that computes an embedding, or takes a step of training."""
    import torch

    if what == "forward":
        model.eval()
        return torch.inference_mode()(forward)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _resident() -> float:
    """Megabytes that this process has in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _seconds(run: Callable[[], None]) -> float:
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
