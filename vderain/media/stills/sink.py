"""PNG files as a sink: one file, or a folder of images; one image in memory at a time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from vderain.errors import OptionError, SinkError
from vderain.files import (
    Destination,
    hidden_name,
    looking_at,
    name_file,
    refuse_input,
    refuse_name,
    require_folder,
    require_permission,
    sweep,
)  # fmt: skip
from vderain.frames import Frame, PassedPacket, PlaneFormat
from vderain.interfaces import FrameSource, SinkReport
from vderain.media.frames.rgb import Image
from vderain.media.stills.image_file import encode_png
from vderain.media.stills.paths import READABLE, TIME_BASE, is_image_path
from vderain.options import EncodeOptions


class ImageSink:
    """FrameSink that writes PNG files, with the names of the source's images.

    A single image goes to a file, or into an existing folder; other input goes to a folder, where frames without
    a name become 000001.png and so on. Files are written under a temporary name next to their place and moved by
    ``finish``: a new folder as a whole, into an existing folder one file after the other. So ``abort`` leaves
    everything as it was. Each track other than the video is a loss. Raises SinkError, and OptionError for an
    output that is no PNG and for frames that are not gray or RGB.
    """

    takes_device_planes = False

    def __init__(self, path: str, source: FrameSource, options: EncodeOptions) -> None:
        refuse_name(path, SinkError)
        _refuse_yuv(path, source.info.pix_fmt)
        origin = Path(source.info.path)
        self._single = os.path.isfile(origin) and is_image_path(str(origin))
        target = str(_target(Path(path), origin, self._single))
        self._place: Destination | _Folder = (
            Destination(target) if self._single else _Folder(target)
        )
        self._place.check(source.info.path, overwrite=options.overwrite)
        self._taken: dict[str, str] = {}
        self._own_names = _png_names(origin)
        self._report = SinkReport(path=target, codec="png", losses=_dropped(source.template))

    def write(self, item: Frame | PassedPacket) -> None:
        """Write one image under its temporary name; packets of other tracks are dropped."""
        if isinstance(item, PassedPacket):
            return
        _refuse_yuv(str(self._place.path), item.format.layout)
        if self._single and self._taken:
            raise OptionError(f"{self._place.path}: one file cannot hold more than one image")
        name = self._name_of(item)
        file = self._place.partial if self._single else self._place.partial / name
        try:
            if not self._single:
                self._place.partial.mkdir(exist_ok=True)
            file.write_bytes(encode_png(item))
        except OSError as error:
            raise SinkError(f"{self._place.path}: cannot write {name}: {error.strerror}") from error
        self._report.frames += 1

    def finish(self) -> SinkReport:
        """Move the files to their place."""
        if not self._taken:
            raise SinkError(f"{self._place.path}: nothing was written, so no output was made")
        self._place.publish()
        return self._report

    def abort(self) -> None:
        """Remove files that were not moved yet."""
        self._place.discard()

    def _name_of(self, frame: Frame) -> str:
        """A name that no other frame has; names that differ by case alone are the same on some systems."""
        source = frame.name or f"{len(self._taken) + 1:06d}"
        plain = name = Path(source).stem + ".png"
        own = {} if source.lower() in self._own_names else self._own_names
        if plain.lower() in self._taken or plain.lower() in own:
            name = source + ".png"
        while name.lower() in self._taken or name.lower() in own:
            name = name.removesuffix(".png") + "_.png"
        if name != plain:
            other = self._taken.get(plain.lower()) or own[plain.lower()]
            self._report.notes.append(f"{source} became {name}, because {other} became {plain}")
        self._taken[name.lower()] = source
        return name


class _Folder:
    """A folder that is filled under another name first, as Destination is for a file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        # Inside the target where it exists: it may be a mount point, and os.replace stays within a file system.
        place = self.path if os.path.isdir(path) else self.path.parent
        self.partial = place / hidden_name()
        self._overwrite = False

    def check(self, source: str, *, overwrite: bool) -> None:
        """Raise SinkError where the folder cannot be filled, is the input, or is not empty."""
        self._overwrite = overwrite
        place = self.partial.parent
        with looking_at(self.path):
            require_folder(self.path, place)
            if not self.path.exists() and os.path.lexists(self.path):
                raise SinkError(
                    f"{self.path}: is a link to a folder that does not exist; remove it, or choose another name"
                )
            refuse_input(self.path, source)
            if self.path.exists() and any(self.path.iterdir()) and not overwrite:
                raise SinkError(f"{self.path}: is not empty; use overwrite=True to write into it")
        require_permission(self.path, place)
        sweep(place)

    def publish(self) -> None:
        """Move all files to their place."""
        try:
            if not self.path.exists():
                os.replace(self.partial, self.path)
                return
            for file in self.partial.iterdir():
                name_file(file, self.path / file.name, overwrite=self._overwrite)
            self.partial.rmdir()
        except FileExistsError as error:
            raise SinkError(
                f"{self.path}: another program wrote into it in the meantime; use overwrite=True to"
                " replace its files, or another folder"
            ) from error
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be completed: {error.strerror}") from error

    def discard(self) -> None:
        """Remove files that were not moved yet."""
        shutil.rmtree(self.partial, ignore_errors=True)


def write_png(path: str, rgb: Image, *, overwrite: bool) -> None:
    """Write one RGB image, (H, W, 3) uint8, which gets its name when it is complete.

    The caller checks whether ``path`` is an input. Raises OptionError for another extension than .png, and
    SinkError.
    """
    place = Destination(path)
    if place.path.suffix.lower() != ".png":
        raise OptionError(f"{path}: images are written as PNG; give a name that ends in .png")
    place.check("", overwrite=overwrite)
    fmt = PlaneFormat("rgb", rgb.shape[1], rgb.shape[0], full_range=True)
    data = encode_png(Frame((rgb[..., 0], rgb[..., 1], rgb[..., 2]), fmt, 0, TIME_BASE))
    try:
        place.partial.write_bytes(data)
        place.publish()
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        place.discard()


def _refuse_yuv(path: str, pixels: str) -> None:
    """Raise OptionError where frames, or the pixel format of a whole source, would need a conversion."""
    if pixels.startswith(("yuv", "nv", "p01")):
        raise OptionError(
            f"{path}: a folder or an image holds gray and RGB images, and these frames are"
            f" {pixels}; a video needs a file name that ends in .mp4, .mkv, .mov or .webm"
        )


def _dropped(template: Any) -> list[str]:
    """A loss for every track other than the video."""
    if template is None:
        return []
    # This imports PyAV, which images do not need.
    from vderain.media.io.open import is_container_track, track_name

    return [
        f"{track_name(stream)}: dropped, images cannot hold it"
        for stream in template.container.streams
        if stream.index != template.video_index and not is_container_track(stream)
    ]


def _png_names(folder: Path) -> dict[str, str]:
    """Lower-case name -> name of the PNG files of an input folder, which keep their names."""
    try:
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return {}
    return {name.lower(): name for name in sorted(names) if name.lower().endswith(".png")}


def _target(path: Path, origin: Path, single: bool) -> Path:
    """The file or folder that a sink writes."""
    folder = os.path.isdir(path)
    if single and folder:
        return path / (origin.stem + ".png")
    if single and path.suffix.lower() != ".png":
        raise OptionError(
            f"{path}: images are written as PNG; name a .png file or an existing folder"
        )
    if not single and not folder and (os.path.isfile(path) or path.suffix.lower() in READABLE):
        raise OptionError(f"{path}: more than one image needs a folder as output, not a file")
    return path
