"""Settings that all tests share."""

import os

import pytest


@pytest.fixture(autouse=True)
def _quiet_encoders(monkeypatch):
    """SVT-AV1 prints to standard error unless told otherwise before it opens."""
    monkeypatch.setenv("SVT_LOG", os.environ.get("SVT_LOG", "1"))
