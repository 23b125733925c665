"""Finds the clips of a batch and names their outputs."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vderain.errors import OptionError, SinkError, SourceError
from vderain.files import LONGEST_NAME_BYTES
from vderain.media.io.formats import container_for
from vderain.media.stills.paths import READABLE as IMAGE_EXTENSIONS
from vderain.options import EncodeOptions

WORK_FOLDER = ".vderain-batch"  # below the target: the manifest, segments, unfinished clips
VIDEO_EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .vob .wmv .asf .flv .3gp .3g2 .mxf .h264 .264"
    " .hevc .265 .ogv .dav".split()
)


@dataclass(frozen=True, slots=True)
class Found:
    """A clip that was found: ``source`` to read, ``output`` relative to the target."""

    source: Path
    output: Path
    size_bytes: int
    mtime_ns: int


class Archive:
    """The sources of a batch: folders and files, filtered by patterns.

    Args:
        sources: folders are searched recursively; files are taken as they are.
        target: the folder of the outputs, in the tree of the sources; it is never searched.
        listed: more sources, which keep their folders below the target, see ``places_of``; those that lie in the
        target are left out.
        include: patterns such as ``*_F.mp4`` or ``2024/*``, of which one must match a file's name or its
            path below the source; all videos where empty.
        exclude: patterns of which none may match.
        encode: decides which containers can be written.
        on_left_out: is called once for each folder or file that is left out, with the reason.

    Raises SourceError for a source that does not exist, OptionError for a target that is a source.

    Attributes:
        left_out: sources left out so far, with the reason; without those that patterns exclude.

    """

    def __init__(
        self,
        sources: Sequence[Path],
        target: Path,
        *,
        listed: Sequence[Path] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        encode: EncodeOptions | None = None,
        on_left_out: Callable[[Path, str], None] | None = None,
    ) -> None:
        self.left_out: dict[Path, str] = {}
        self._on_left_out = on_left_out or (lambda path, reason: None)
        self._owners: dict[Path, Path] = {}  # output -> source, over all searches
        self._include, self._exclude = tuple(include), tuple(exclude)
        self._encode = encode or EncodeOptions()
        self._target = target
        folders = [source for source in sources if _kind(source) == "folder"]
        self._files = [(path, Path(path.name)) for path in sources if path not in folders]
        names = [Path(os.path.abspath(folder)).name for folder in folders]
        for name, folder in zip(names, folders, strict=True):
            if len(folders) > 1 and names.count(name) > 1:
                raise OptionError(
                    f"{folder}: another source has the same name, and both would be written to"
                    f" {target / name}; run one batch for each"
                )
            if os.path.realpath(folder) == os.path.realpath(target):
                raise OptionError(f"{target}: is the source itself; choose another target folder")
        # One folder is mirrored into the target itself, several into folders of their names below it.
        self._folders = {
            folder: Path(name) if len(folders) > 1 else Path()
            for name, folder in zip(names, folders, strict=True)
        }
        for path, place in places_of(listed):
            if _lies_in(path, target):  # `find .` lists outputs of earlier batches too
                continue
            if _kind(path) == "folder":
                self._folders[path] = place
            else:
                self._files.append((path, place))

    def found(self) -> list[Found]:
        """The result of ``clips``. Raises SourceError where that is empty, and what ``clips`` raises."""
        found = list(self.clips())
        if not found:
            raise SourceError(self._nothing())
        return found

    def clips(self, *, lenient: bool = False) -> Iterator[Found]:
        """Every clip that is there now, in the order of the folders; files that vanish during the search are left out.

        Raises OptionError where two clips would have the same output, or a clip would be its own output;
        ``lenient`` leaves out the one that was found later.
        """
        seen: dict[Path, Path] = {}
        for source, inside in self._candidates():
            found = self._found(source, inside)
            if found is None:
                continue
            other = seen.get(found.output)
            if other is not None and other.absolute() == source.absolute():
                continue  # named twice, or with its folder
            refusal = self._refusal(found, other)
            if refusal and not lenient:
                raise OptionError(f"{source}: {refusal[0]}; {refusal[1]}")
            if refusal:
                self._leave_out(source, refusal[0])
                continue
            seen[found.output] = self._owners[found.output] = source
            yield found

    def _refusal(self, found: Found, other: Path | None) -> tuple[str, str] | None:
        """Why a clip cannot have its output, whose name ``other`` may have too, and what to do."""
        if other is None:
            before = self._owners.get(found.output, found.source)
            is_another = before.absolute() != found.source.absolute()
            other = before if is_another and os.path.lexists(before) else None
        if other is not None:
            why = f"and {other} would both be written to {found.output}"
            return why, "rename one, or run one batch for each"
        output = self._target / found.output
        if os.path.lexists(output) and _is_place_of(output, found.source):
            return "would be written over itself", "choose another target folder"
        return None

    def _candidates(self) -> Iterator[tuple[Path, Path]]:
        """Files with their places in the target."""
        for folder, place in self._folders.items():
            for path in self._files_below(folder):
                inside = path.relative_to(folder)
                if path.suffix.lower() in VIDEO_EXTENSIONS and self._takes(inside):
                    yield path, place / inside
        yield from self._files

    def _files_below(self, folder: Path) -> Iterator[Path]:
        def fail(error: OSError) -> None:
            path = Path(os.fsdecode(error.filename or folder))
            inside = path.relative_to(folder)
            # "lost+found/*" excludes the folder's clips, so the folder is not reported either.
            if not self._is_excluded(path.name, str(inside), f"{inside}/"):
                self._fail(path, error)

        return _walk(folder, Path(os.path.realpath(self._target)), fail)

    def _fail(self, path: Path, error: OSError) -> None:
        """Add a path that cannot be read; one that has vanished is ignored."""
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            self._leave_out(path, f"cannot be read ({error.strerror or type(error).__name__})")

    def _leave_out(self, path: Path, reason: str) -> None:
        if path not in self.left_out:
            self.left_out[path] = reason
            self._on_left_out(path, reason)

    def _nothing(self) -> str:
        """The error where there is no clip, with what to do."""
        names = ", ".join(str(folder) for folder in self._folders)
        if not self._folders and not self.left_out:
            return f"{self._target}: there is no clip to derain outside of it; check what is named"
        files = [path for folder in self._folders for path in self._files_below(folder)]
        if self.left_out:
            path, reason = next(iter(self.left_out.items()))
            return f"{path}: {reason}, and no clip was found elsewhere"
        if any(path.suffix.lower() in VIDEO_EXTENSIONS for path in files):
            patterns = [f"include={pattern!r}" for pattern in self._include]
            patterns += [f"exclude={pattern!r}" for pattern in self._exclude]
            return f"{names}: no video is left by {' '.join(patterns)}; check the patterns"
        for path in files:
            if path.suffix.lower() in IMAGE_EXTENSIONS:
                return (
                    f"{names}: holds images and no video; derain images with:"
                    f" vderain run {path.parent} FOLDER"
                )
        return f"{names}: no video in it; name the clips, or their folder"

    def _takes(self, inside: Path) -> bool:
        names = (inside.name, str(inside))
        if self._is_excluded(*names):
            return False
        return not self._include or any(
            fnmatch.fnmatchcase(n, p) for n in names for p in self._include
        )

    def _is_excluded(self, *names: str) -> bool:
        return any(fnmatch.fnmatchcase(n, p) for n in names for p in self._exclude)

    def _found(self, source: Path, inside: Path) -> Found | None:
        try:
            about = source.stat()
        except OSError as error:
            self._fail(source, error)
            return None
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would block forever
            self._leave_out(source, "is no regular file")
            return None
        return Found(source, output_name(inside, self._encode), about.st_size, about.st_mtime_ns)


def output_name(inside: Path, encode: EncodeOptions) -> Path:
    """The output of a clip at ``inside``: its own name, or that name with ``.mkv`` appended.

    ``.mkv`` is appended where the clip's container cannot be written, cannot hold the codec or stores no times.
    """
    with suppress(SinkError):
        if container_for(str(inside), encode).timestamps:
            return inside
    longer = inside.with_name(inside.name + ".mkv")
    fits = len(os.fsencode(longer.name)) <= LONGEST_NAME_BYTES
    return longer if fits else inside.with_suffix(".mkv")


def places_of(listed: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Listed files and folders, each with its place below the target.

    Relative paths keep their folders. Absolute paths, and those that leave the current folder, keep their
    folders below the deepest folder that contains all of them.
    """
    inside = {path: Path(os.path.normpath(path)) for path in listed}
    away = {
        path: Path(os.path.abspath(path))
        for path, place in inside.items()
        if place.is_absolute() or place.parts[:1] == ("..",)
    }
    folders = [place if os.path.isdir(path) else place.parent for path, place in away.items()]
    if folders:
        shared = os.path.commonpath(folders)
        inside |= {path: place.relative_to(shared) for path, place in away.items()}
    return list(inside.items())


def read_list(text: str) -> list[Path]:
    """The paths of a list: one for each line, or separated by NUL bytes for names with line breaks."""
    if "\0" in text:
        return [Path(name) for name in text.split("\0") if name]
    return [Path(line) for line in text.splitlines() if line.strip()]


def _kind(source: Path) -> str:
    try:
        about = source.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"{source}: there is no such file or folder") from None
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from None
    return "folder" if stat.S_ISDIR(about.st_mode) else "file"


def _walk(folder: Path, target: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Every file below a folder, sorted; follows links, but no circles, and skips the target.

    ``on_error`` is called for folders that cannot be read; the search continues in the others.
    """
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        try:
            about = os.stat(root)
        except OSError as error:
            on_error(error)
            folders.clear()
            continue
        identity = (about.st_dev, about.st_ino)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not _left_out(root, name, target))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(root) / name


def _left_out(root: str, name: str, target: Path) -> bool:
    hidden = name.startswith(".")
    return hidden or Path(os.path.realpath(os.path.join(root, name))) == target


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _is_place_of(output: Path, source: Path) -> bool:
    """Whether both paths name the same entry of the same folder; a link to a source is another entry."""
    same = output.name == source.name
    return same and os.path.realpath(output.parent) == os.path.realpath(source.parent)
