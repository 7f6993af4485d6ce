"""Have mne_labram imported before a test file asks for Braindecode: it repairs what that import may stumble over."""

import mne_labram  # noqa: F401
