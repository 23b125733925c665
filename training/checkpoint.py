"""The state of a run on disk: replaced as a whole, so that a kill or a full disk leaves the one before.

``train.Trainer`` saves it and resumes from it.
"""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vderain.errors import SinkError, WeightsError

SCHEMA = 2


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` next to ``path``, then give it the name; SinkError where it cannot be written."""
    written = path.with_suffix(".part")
    try:
        with written.open("wb") as file:
            torch.save({"schema": SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, path)
    except (OSError, RuntimeError) as error:  # torch wraps what the system says of a full disk
        with suppress(OSError):
            written.unlink(missing_ok=True)
        kept = "; the checkpoint before it is whole" if path.exists() else ""
        reason = str(error).splitlines()[0]
        raise SinkError(f"{path}: the checkpoint cannot be written ({reason}){kept}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU; WeightsError where the file is missing, damaged or of another kind."""
    try:
        # Torch does not look at the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such checkpoint; name a run's folder, or its file"
        ) from None
    except Exception as error:  # what a damaged file raises depends on the byte that is wrong
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"{path}: damaged, or no checkpoint ({reason}); name another, or move it away to start again"
        ) from None
    if not isinstance(state, dict) or "schema" not in state:
        raise WeightsError(f"{path}: not a checkpoint of a run; name a run's folder, or its file")
    schema = state["schema"]
    if schema != SCHEMA:
        raise WeightsError(
            f"{path}: written by another version (schema {schema}, this one reads {SCHEMA}); "
            "use that version, or another run folder"
        )
    return state


def checkpoint_path(path: Path) -> Path:
    """The checkpoint of a run's folder, or the file itself."""
    return path / "checkpoint.pt" if path.is_dir() or not path.suffix else path
