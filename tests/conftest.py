"""Settings that all tests share."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

# Whatever imports openvino first: it would report its use, and fork the whole process for every graph that is made.
sys.modules["openvino_telemetry"] = None


@pytest.fixture(autouse=True)
def _quiet_encoders(monkeypatch):
    """SVT-AV1 prints to standard error unless told otherwise before it opens."""
    monkeypatch.setenv("SVT_LOG", os.environ.get("SVT_LOG", "1"))


@pytest.fixture(autouse=True, scope="session")
def _own_engine_cache(tmp_path_factory):
    """Tests share a cache among themselves, and leave the user's alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDERAIN_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts_reach_children():
    """A suite in the background ignores SIGINT, which its children would inherit; they must not depend on that.

    It is undone here, once for all of them: a command that is told to ignore Ctrl-C is right to do so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread():
    """One thread for torch: training is repeatable then, and tiny networks are faster."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unreadable(monkeypatch):
    """Folders that cannot be read from now on, by their names."""
    names = set()
    scandir = os.scandir

    def refused(path="."):
        if not isinstance(path, int) and Path(path).name in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    return names
