"""What every model gives for a signal: shapes, features, units, number formats, devices."""

from __future__ import annotations

import pytest
import torch

from .rows import CODECS, N_TIMES, ROWS, Row, all_models, build, compute_loss, every_model, signal


@every_model
def test_shorter_windows_than_at_construction(row: Row) -> None:
    model = build(row).eval()
    for n_patches in (1, 2, 3, 16):
        out = model(signal(n_times=200 * n_patches))
        assert torch.isfinite(out).all()
        if row.n_outputs is None:
            assert out[0].numel() == 4 * n_patches * row.output_shape[-1]
    for n_times, words in (
        (100, "at least one patch of 200 samples, got 100"),
        (0, "at least one patch"),
        (601, "crop it to 600"),
        (3400, "at most 16 patches"),
    ):
        with pytest.raises(ValueError, match=words):
            model(signal(n_times=n_times))
        with pytest.raises(ValueError, match=words):
            build(row, n_times=n_times)


@every_model
def test_width_of_128(row: Row) -> None:
    model = build(row, embed_dim=128, num_heads=None).eval()
    assert model.embed_dim == 128
    assert model(signal(), return_features=True)["features"].shape == (2, 12, 128)


@every_model
def test_features(row: Row) -> None:
    model = build(row).eval()
    out = model(signal(), return_features=True)
    assert {"features", "cls_token"} <= set(out)
    assert out["features"].shape == (2, 12, 16)
    assert out["cls_token"].shape == (2, 16)
    assert isinstance(model(signal()), torch.Tensor)
    tokens = model.embed(signal(), "tokens")
    assert tokens.shape == (2, 4, 3, 16)
    torch.testing.assert_close(tokens.flatten(1, 2), out["features"])
    torch.testing.assert_close(model.embed(signal(), "cls"), out["cls_token"])
    assert model.embed(signal()).shape == (2, 16)
    with pytest.raises(ValueError, match="pooling must be one of"):
        model.embed(signal(), "max")


@all_models
def test_input_is_not_modified(row: Row) -> None:
    model = build(row)
    x = signal()
    before = x.clone()
    model.train()(x)
    compute_loss(row, model, x).backward()
    model.eval().embed(x)
    assert torch.equal(x, before)
    assert x.grad is None


@all_models
def test_float64_input(row: Row) -> None:
    model = build(row).eval()
    assert torch.equal(model(signal().double()), model(signal()))
    assert model(signal()).dtype == torch.float32


@all_models
def test_units(row: Row) -> None:
    model = build(row).eval()
    with pytest.warns(UserWarning, match="looks like volts, but .* takes microvolts; multiply by 1e6"):
        model(signal() * 1e-6)
    model(signal() * 1e-6)  # a second warning would be an error
    fresh = build(row).eval()
    assert torch.isfinite(fresh(torch.zeros(2, 4, N_TIMES))).all()  # nothing is said about zeros
    for value in (torch.nan, torch.inf):
        x = signal()
        x[1, 2, 3] = value
        with pytest.raises(ValueError, match="Input holds NaN or infinite values"):
            fresh(x)


@all_models
def test_same_result_on_one_and_two_threads(row: Row) -> None:
    n_threads = torch.get_num_threads()
    outputs = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            model = build(row).train()
            loss = compute_loss(row, model, signal(4))
            loss.backward()
            model.eval()
            codes = model.encode(signal(4)) if hasattr(model, "encode") else None
            outputs.append((model(signal(4)).detach(), loss.detach(), codes))
    finally:
        torch.set_num_threads(n_threads)
    (one, loss_one, codes_one), (two, loss_two, codes_two) = outputs
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    torch.testing.assert_close(loss_one, loss_two, rtol=1e-6, atol=0)
    if codes_one is not None:
        assert torch.equal(codes_one, codes_two)


@pytest.mark.parametrize("name", ["classification-coordinates", "masked", "tokenizer", *CODECS])
def test_one_graph_for_the_compiler(name: str) -> None:
    model = build({**ROWS, **CODECS}[name]).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(signal()), model(signal()), rtol=0, atol=1e-5)


@all_models
def test_meta_device(row: Row) -> None:
    with torch.device("meta"):
        model = build(row).eval()
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(torch.empty(2, 4, N_TIMES, device="meta")).shape == row.output_shape
