"""Decoded images in memory up to a budget, so that a big set need not fit in it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np

from vderain.training.data.images import (
    ClipFrame,
    ImageFile,
    Reference,
    part_of,
    read_reference,
    read_spread,
)
from vderain.training.rain.render import Image

_log = logging.getLogger(__name__)
_DISK_MB = 20_000


class ImageCache:
    """Images by reference, the least recently used dropped first; may be shared by threads.

    A dropped image is decoded again when it is next needed. Frames of clips, where that would mean
    decoding the clip, go uncompressed into a temporary folder of at most 20 GB, which is removed with the
    cache. What comes back never depends on what the cache held.

    Attributes:
        budget_mb: decoded images held in memory, in megabytes.
        overflowed: whether anything was dropped yet.

    """

    def __init__(self, budget_mb: float = 2000) -> None:
        self.budget_mb = budget_mb
        self.overflowed = False
        self._lock = threading.Lock()
        self._images: OrderedDict[Reference, Image] = OrderedDict()
        self._bytes = 0
        self._on_disk: dict[ClipFrame, Path] = {}
        self._folder: Path | None = None
        self._disk_bytes = 0

    def image(self, reference: Reference) -> Image:
        """The image that a reference names, (H, W, 3) uint8 RGB, not to be written to.

        Raises SourceError where it cannot be read.
        """
        if isinstance(reference, ImageFile):
            return part_of(self._held(ImageFile(reference.path)), reference)
        return self._held(reference)

    def _held(self, reference: Reference) -> Image:
        with self._lock:
            if reference in self._images:
                self._images.move_to_end(reference)
                return self._images[reference]
            stored = self._on_disk.get(reference) if isinstance(reference, ClipFrame) else None
        if stored is not None:
            frame: Image = np.load(stored, mmap_mode="r")  # only what a patch covers will be read
            return frame
        if isinstance(reference, ClipFrame):
            reach = reference.reach
            places = read_spread(reference.path, reference.of, reach)
            for index, frames in enumerate(places):
                for offset, image in enumerate(frames, -reach):
                    self._keep(replace(reference, index=index, offset=offset), image)
            return places[reference.index][reference.offset + reach]
        image = read_reference(reference)
        self._keep(reference, image)
        return image

    def _keep(self, reference: Reference, image: Image) -> None:
        with self._lock:
            if reference in self._images:
                return
            self._images[reference] = image
            self._bytes += image.nbytes
            while self._bytes > self.budget_mb * 1e6:
                self.overflowed = True
                dropped, old = self._images.popitem(last=False)
                self._bytes -= old.nbytes
                if isinstance(dropped, ClipFrame) and dropped not in self._on_disk:
                    self._store(dropped, old)

    def _store(self, reference: ClipFrame, image: Image) -> None:
        if self._disk_bytes > _DISK_MB * 1e6:
            return
        path = self._make_folder() / f"{len(self._on_disk)}.npy"
        try:
            np.save(path, image)
        except OSError as error:
            path.unlink(missing_ok=True)
            self._disk_bytes += 1 << 62  # not tried again
            _log.warning(
                "%s: %s; clips are decoded again, which is slow: raise cache_mb", path, error
            )
            return
        self._on_disk[reference] = path
        self._disk_bytes += image.nbytes
        if self._disk_bytes > _DISK_MB * 1e6:
            _log.warning(
                "%.0f GB of clips' frames are in %s; further clips are decoded again, which is slow:"
                " raise cache_mb, or lower frames",
                self._disk_bytes / 1e9,
                path.parent,
            )

    def _make_folder(self) -> Path:
        if self._folder is None:
            self._folder = folder_of(self, "vderain-frames-")
        return self._folder


def folder_of(owner: object, prefix: str) -> Path:
    """A new temporary folder, which is removed with its owner."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    weakref.finalize(owner, _remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process leaves it to its parent
        shutil.rmtree(folder, ignore_errors=True)
