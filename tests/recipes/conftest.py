"""Fixtures that the tests of the recipes share."""

import numpy as np
import pytest
from killable import NeverStopped, start_fork_server
from matplotlib.figure import Figure

from recipes import imdb, mnist
from recipes.data import samples, tfds
from recipes.data.review_grammar import make_reviews
from recipes.pictures import figure


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No host answers; the folder that should hold the prepared copies is empty."""
    monkeypatch.setattr(tfds, "is_reachable", lambda url: False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing, which other tests do, and make a tenth of the reviews."""
    monkeypatch.setattr(mnist, "draw_mnist", lambda *arguments: None)
    monkeypatch.setattr(imdb, "draw_imdb", lambda *arguments: None)
    monkeypatch.setattr(
        samples, "make_reviews", lambda count, seed: make_reviews(count // 10, seed)
    )


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """The folder of two finished runs, one of each recipe."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["--data", "sample", "--runs", str(folder), "--name", "run"]
    for program, flags in (
        (mnist, "--epochs 4 --units 24 --batch 32 --distortion 0"),
        (imdb, "--steps 4 --units 8 --words 50 --embedding 8"),
    ):
        assert program.main([*common, *flags.split()]) == 0
    return folder


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn; they are saved, too."""
    drawn = []

    def make(**options):
        drawn.append(Figure(**options))
        return drawn[-1]

    monkeypatch.setattr(figure, "Figure", make)
    return drawn


@pytest.fixture(scope="session")
def fork_server():
    start_fork_server()


@pytest.fixture(scope="session")
def never_stopped(fork_server, tmp_path_factory):
    """The folder of each scenario's run that nobody stopped."""
    return NeverStopped(tmp_path_factory.mktemp("never-stopped"))
