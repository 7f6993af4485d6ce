"""EEGEmbedding and EEGTokenizer as scikit-learn estimators."""

import pickle

import mne
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from mne_labram import EEGEmbedding, EEGTokenizer, LabramForClassification, LabramTokenizer, labram_embed
from mne_labram.signal.contract import ContractError

CHANNELS = ["C3", "CZ", "C4", "PZ"]
SMALL = {"embed_dim": 40, "num_layers": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def model():
    """Return a tiny classifier."""
    torch.manual_seed(0)
    return LabramForClassification(ch_names=CHANNELS, n_times=400, sfreq=200, n_outputs=2, **SMALL)


@pytest.fixture(scope="module")
def tokenizer():
    """Return a tiny tokenizer."""
    torch.manual_seed(0)
    return LabramTokenizer(ch_names=CHANNELS, n_times=400, sfreq=200, n_codes=32, code_dim=8, **SMALL)


@pytest.fixture(scope="module")
def epochs():
    """Twelve 2-s epochs of noise at 200 Hz, 20 µV."""
    rng = np.random.default_rng(0)
    info = mne.create_info([name.title() for name in CHANNELS], 200.0, "eeg")
    return mne.EpochsArray(2e-5 * rng.normal(size=(12, 4, 400)), info, verbose="error")


def test_in_a_pipeline(model, epochs):
    """make_pipeline with a linear classifier fits, predicts, clones and pickles."""
    y = np.arange(12) % 2
    pipeline = make_pipeline(EEGEmbedding(model, pooling="channels"), LogisticRegression()).fit(epochs, y)
    predictions = pipeline.predict_proba(epochs)
    assert predictions.shape == (12, 2)
    again = clone(pipeline).fit(epochs, y)
    np.testing.assert_allclose(again.predict_proba(epochs), predictions, atol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(pipeline)).predict_proba(epochs), predictions, atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "n_features", "last"),
    [("mean", 40, "mean_39"), ("cls", 40, "cls_39"), ("channels", 160, "PZ_39"), ("tokens", 320, "PZ_patch1_39")],
)
def test_features_and_names(model, epochs, pooling, n_features, last):
    """Every pooling is the verb's, flattened, with names in order."""
    estimator = EEGEmbedding(model, pooling, precision="float32")
    X = estimator.fit_transform(epochs)
    assert X.shape == (12, n_features)
    expected = labram_embed(epochs, model, pooling, precision="float32").reshape(12, -1)
    np.testing.assert_allclose(X, expected, atol=1e-6)
    np.testing.assert_allclose(estimator.transform(epochs), X, atol=1e-6)
    names = estimator.get_feature_names_out()
    assert (len(names), names[-1]) == (n_features, last)


def test_arrays_agree_with_epochs(model, epochs):
    """An array in microvolts gives what Epochs in volts give."""
    array = epochs.get_data(units="uV")
    from_array = EEGEmbedding(model, ch_names=epochs.ch_names, sfreq=200.0, precision="float32").fit_transform(array)
    from_epochs = EEGEmbedding(model, precision="float32").fit_transform(epochs)
    scale = np.abs(from_epochs).max()
    np.testing.assert_allclose(from_array, from_epochs, atol=1e-3 * scale)


def test_cross_validation_over_epochs(model, epochs):
    """scikit-learn takes single epochs out of Epochs and hands on a list of them."""
    embedding = EEGEmbedding(model, precision="float32")
    parts = embedding.fit_transform([epochs[3], epochs[7]])
    np.testing.assert_allclose(parts, embedding.transform(epochs)[[3, 7]], atol=1e-5)
    y = np.arange(12) % 2
    pipeline = make_pipeline(embedding, LogisticRegression())
    assert cross_val_predict(pipeline, epochs, y, cv=2).shape == (12,)


def test_raw_is_cut_into_windows(model, epochs):
    """A continuous recording gives one row per window."""
    raw = mne.io.RawArray(np.concatenate(list(epochs.get_data()), axis=1), epochs.info, verbose="error")
    assert EEGEmbedding(model, stride=1.0).fit_transform(raw).shape == (23, 40)


def test_set_output(model, tokenizer, epochs):
    """Data frames with the channel in the column name."""
    frame = EEGEmbedding(model, pooling="channels").set_output(transform="pandas").fit_transform(epochs)
    assert frame.shape == (12, 160)
    assert frame.columns[0] == "C3_0"
    frame = EEGTokenizer(tokenizer).set_output(transform="pandas").fit_transform(epochs)
    assert list(frame.columns) == [f"{name}_patch{i}" for name in CHANNELS for i in range(2)]


def test_codes_and_histogram(tokenizer, epochs):
    """Codes are integers of the codebook; a histogram sums to one."""
    codes = EEGTokenizer(tokenizer).fit_transform(epochs)
    assert codes.shape == (12, 8)
    assert np.issubdtype(codes.dtype, np.integer)
    assert codes.min() >= 0
    assert codes.max() < 32
    histogram = EEGTokenizer(tokenizer, output="histogram").fit_transform(epochs)
    assert histogram.shape == (12, 32)
    np.testing.assert_allclose(histogram.sum(axis=1), 1)
    np.testing.assert_allclose(histogram[0], np.bincount(codes[0], minlength=32) / 8)


def test_unusable_epochs_are_refused_or_kept_as_nan(model, tokenizer, epochs):
    """A NaN never becomes a feature silently."""
    broken = epochs.copy()
    broken._data[3, :, 100:180] = np.nan
    with pytest.raises(ContractError, match="1 of 12 windows"):
        EEGEmbedding(model).fit_transform(broken)
    X = EEGEmbedding(model, on_unusable="keep").fit_transform(broken)
    assert np.flatnonzero(np.isnan(X).any(axis=1)).tolist() == [3]
    codes = EEGTokenizer(tokenizer, on_unusable="keep").fit_transform(broken)
    assert np.flatnonzero((codes == -1).any(axis=1)).tolist() == [3]


def test_another_montage(model, epochs):
    """Pooled features take any montage; features of channels do not."""
    fewer = epochs.copy().pick(["C3", "Cz", "C4"])
    assert EEGEmbedding(model).fit(epochs).transform(fewer).shape == (12, 40)
    with pytest.raises(ContractError, match="fitted on 4"):
        EEGEmbedding(model, pooling="channels").fit(epochs).transform(fewer)


def test_wrong_arguments(model, epochs):
    """Each is one sentence."""
    with pytest.raises(ValueError, match="ch_names"):
        EEGEmbedding(model).fit(epochs.get_data(units="uV"))
    with pytest.raises(TypeError, match="LabramTokenizer"):
        EEGTokenizer(model).fit(epochs)
    with pytest.raises(ValueError, match="pooling"):
        EEGEmbedding(model, pooling="median").fit(epochs)
    with pytest.raises(ValueError, match="every epoch is one window"):
        EEGEmbedding(model, window=1.0).fit(epochs)
    with pytest.raises(ContractError, match="assume_unit='V'"):
        EEGEmbedding(model, ch_names=epochs.ch_names, sfreq=200.0).fit(epochs.get_data())


def test_estimator_conventions(model, epochs):
    """Nothing happens in __init__; tags and parameters are scikit-learn's; the model is left as it was."""
    estimator = EEGEmbedding("no/such/file.safetensors")
    assert estimator.get_params()["model"] == "no/such/file.safetensors"
    assert get_tags(estimator).input_tags.three_d_array
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    EEGEmbedding(model).fit_transform(epochs)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.ch_names == CHANNELS


def test_metadata_routing(model, epochs):
    """The estimators request nothing, and a pipeline that routes sample weights past them works."""
    import sklearn

    y = np.arange(12) % 2
    with sklearn.config_context(enable_metadata_routing=True):
        assert EEGEmbedding(model).get_metadata_routing().fit.requests == {}
        classifier = LogisticRegression().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(EEGEmbedding(model), classifier)
        pipeline.fit(epochs, y, sample_weight=np.ones(12))
        assert pipeline.predict(epochs).shape == (12,)
