"""Programs compiled from models/, and a browser, shared by the tests of the page."""

from pathlib import Path

import browser
import pytest

import mgc

MODELS = Path(__file__).parents[2] / "models" / "mlp_gan"


@pytest.fixture(scope="session")
def compiled():
    """A small generator for inference."""
    return mgc.compile(MODELS / "mlp_gan_G.onnx", batch=4)


@pytest.fixture(scope="session")
def trained():
    """A small GAN for training."""
    return mgc.compile_training(
        MODELS / "mlp_gan_G.onnx", discriminator=MODELS / "mlp_gan_D.onnx", loss="bce", optimizer="adam", batch=4
    )


@pytest.fixture(scope="session")
def tab():
    """A tab of a headless Chromium; tests that need one are skipped where none is installed."""
    if browser.executable() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with browser.chromium() as page:
        yield page
