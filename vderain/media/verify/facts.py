"""Properties of a file besides its packets, for the comparison of a source and its output."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.stream import Disposition

from vderain.media.bitstream.programs import service_tags
from vderain.media.carry.languages import same_language
from vderain.media.carry.timecode import container_timecode
from vderain.media.frames.color import side_data_of
from vderain.media.io.formats import portable_metadata
from vderain.media.io.open import is_container_track, open_container, pick_video
from vderain.media.mp4.leftovers import Leftovers, path_of, read_leftovers

_CROP = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")  # Matroska: bottom, top, left, right
# Side data of frames that belongs to the view and not to the coding, with words for reports.
_VIEWS = {
    "SPHERICAL": "spherical view",
    "STEREO3D": "stereo view",
}
# Words by which ``differences`` names properties of the view.
VIEW_WORDS = frozenset({"crop", "transparency", *(text.split()[0] for text in _VIEWS.values())})
# Tags that are compared as other properties, or that each container writes itself.
_SERVICE_TAGS = ("service_name", "service_provider")
_OTHER_TAGS = frozenset({"timecode", "alpha_mode", "stereo_mode", "rotate", *_SERVICE_TAGS})
_ROLES = (
    *(Disposition.dub, Disposition.original, Disposition.comment, Disposition.lyrics),
    *(Disposition.karaoke, Disposition.forced, Disposition.hearing_impaired),
    *(Disposition.visual_impaired, Disposition.clean_effects, Disposition.captions),
    Disposition.descriptions,
)
_UNKNOWN_LANGUAGES = frozenset({"", "und"})
_RATE_APART = 8  # factor between a nominal and the real frame rate, which is uneven in some files


@dataclass(frozen=True, slots=True)
class Facts:
    """The properties of a file besides its packets.

    Attributes:
        tags: of the container, by names in lower case, without those of its writer.
        chapters: how many.
        timecode: of the container or its video, None where there is none.
        nominal_rate: frames per second that the container names.
        pixel_shape: width by height of a pixel.
        turned: whether a display matrix turns the frames.
        crop: columns and rows that players hide, by sides.
        views: kinds of the first frame's side data that belong to the view.
        transparent: whether the container says that frames have an alpha channel.
        languages: kind and language of the tracks that have one.
        roles: kind and role of the tracks that have one, such as forced subtitles.
        chosen: kinds of tracks of which players choose another than the first one, and which.
        boxes: boxes of an MP4 or MOV file that FFmpeg does not read, counted by kind.
        titles: of tracks.
        labels: all values of the tags of tracks.
        services: tags with the name of an MPEG-TS program.

    """

    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: int = 0
    timecode: str | None = None
    nominal_rate: Fraction | None = None
    pixel_shape: Fraction = Fraction(1)
    turned: bool = False
    crop: tuple[int, ...] = ()
    views: frozenset[str] = frozenset()
    transparent: bool = False
    languages: tuple[tuple[str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    chosen: frozenset[tuple[str, int]] = frozenset()
    boxes: Mapping[str, int] = field(default_factory=dict)
    titles: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    services: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        container: Any,
        video: Any,
        *,
        views: Collection[str],
        turned: bool,
        chapters: int,
        leftovers: Leftovers | None,
        tracks: Collection[int] | None = None,
        services: Mapping[str, str] | None = None,
    ) -> Facts:
        """Of an open input; ``views`` are the names of the first frame's side data.

        ``tracks`` are the indices of tracks that count besides the video; None for all. ``services`` are tags that
        PyAV does not show.
        """
        tags = {key.lower(): value for key, value in portable_metadata(container.metadata).items()}
        rate = video.guessed_rate or video.average_rate
        own = {key.lower(): value for key, value in video.metadata.items()}
        return cls(
            {key: value for key, value in tags.items() if key not in _OTHER_TAGS},
            chapters,
            container_timecode(container, video),
            Fraction(rate) if rate else None,
            Fraction(video.sample_aspect_ratio or 1),
            turned,
            _crop(video),
            frozenset(views) & frozenset(_VIEWS),
            own.get("alpha_mode") == "1",
            tuple(_languages(container, video, tracks)),
            tuple(_roles(container, video, tracks)),
            frozenset(_chosen(container, video, tracks)),
            _boxes(leftovers),
            tuple(_titles(container, video, tracks)),
            frozenset(text for stream in container.streams for text in stream.metadata.values()),
            {key: tags[key] for key in _SERVICE_TAGS if key in tags} | dict(services or {}),
        )

    @classmethod
    def read(cls, path: str) -> Facts:
        """Of a file; its first frame is decoded. Raises SourceError."""
        with closing(open_container(path)) as container:
            video = pick_video(container, path)
            image: Any = None
            with suppress(av.FFmpegError):
                image = next(container.decode(video), None)
            kinds = [data.type.name for data in side_data_of(image)] if image is not None else []
            return cls.of(
                container,
                video,
                views=kinds,
                turned="DISPLAYMATRIX" in kinds,
                chapters=len(container.chapters()),
                leftovers=read_leftovers(path)
                if container.format.name.startswith("mov,")
                else None,
                services=service_tags(path),
            )


def differences(
    source: Facts, output: Facts, real_rate: Fraction | None
) -> Iterator[tuple[str, str]]:
    """Properties that an output lacks: a word by which losses name the property, and a line.

    ``real_rate`` is the frame rate by the frames' times.
    """
    lost = [key for key, value in source.tags.items() if not _is_held(key, value, output.tags)]
    if lost:
        yield "tag", f"tags: {', '.join(sorted(lost))}"
    for key, text in source.services.items():
        if output.services.get(key) != text:
            yield "service", f"{key.replace('_', ' ')} of MPEG-TS: {text}"
    if output.chapters < source.chapters:
        yield "chapters:", f"chapters: {source.chapters - output.chapters} of {source.chapters}"
    if source.timecode and not output.timecode:
        yield "timecode", f"timecode {source.timecode}"
    named = output.nominal_rate
    is_right = real_rate and _is_near(source.nominal_rate, real_rate)
    if named and real_rate and is_right and not _is_near(named, real_rate):
        yield "frame rate", f"frame rate {float(real_rate):.5g}, the output says {float(named):.5g}"
    if source.pixel_shape != output.pixel_shape:
        yield "shape of pixels", f"shape of pixels {source.pixel_shape}"
    if source.turned and not output.turned:
        yield "rotation", "rotation"
    if any(source.crop) and source.crop != output.crop:
        yield (
            "crop",
            "cropping that players apply (bottom, top, left, right: "
            + (f"{', '.join(map(str, source.crop))})"),
        )
    for kind in sorted(source.views - output.views):
        yield _VIEWS[kind].split()[0], _VIEWS[kind]
    if source.transparent and not output.transparent:
        yield "transparency", "transparency that the container announces"
    languages = Counter(source.languages) - Counter(output.languages)
    for (kind, language), count in sorted(languages.items()):
        yield "language", f"language of {count} {kind} track: {language}"
    roles = Counter(source.roles) - Counter(output.roles)
    for (kind, role), count in sorted(roles.items()):
        yield f"role {role}", f"role {role} of {count} {kind} track"
    for kind, number in sorted(source.chosen - output.chosen):
        yield "players choose", f"{kind} that players choose: track {number + 1} of that kind"
    for title in source.titles:
        if title not in output.labels:
            yield "title of a track", f"title of a track: {title}"
    if boxes := _missing_boxes(source.boxes, output.boxes):
        yield "boxes", boxes


def lost_boxes(source: Leftovers, output: Leftovers) -> str:
    """The boxes of a source that an output with those of ``output`` does not have; "" for none."""
    return _missing_boxes(_boxes(source), _boxes(output))


def _missing_boxes(source: Mapping[str, int], output: Mapping[str, int]) -> str:
    boxes = Counter(source) - Counter(output)
    return f"boxes: {', '.join(sorted(boxes))}" if boxes else ""


def _is_held(key: str, value: str, tags: Mapping[str, str]) -> bool:
    """Whether an output has a tag, also with a language appended to its name."""
    plain = key.rpartition("-")[0] or key
    return value in (tags.get(key), tags.get(plain)) or (key == "creation_time" and key in tags)


def _is_near(rate: Fraction | None, real: Fraction) -> bool:
    return rate is not None and real / _RATE_APART <= rate <= real * _RATE_APART


def _languages(
    container: Any, video: Any, tracks: Collection[int] | None
) -> Iterator[tuple[str, str]]:
    for stream in container.streams:
        if tracks is not None and stream.index not in tracks:
            continue
        language = stream.metadata.get("language", "")
        is_known = language not in _UNKNOWN_LANGUAGES
        if is_known and stream.index != video.index and not is_container_track(stream):
            yield stream.type, same_language(language)


def _compared(container: Any, video: Any, tracks: Collection[int] | None) -> Iterator[Any]:
    """The tracks that an output must have too, and its video."""
    for stream in container.streams:
        counts = tracks is None or stream.index in tracks or stream.index == video.index
        is_cover = stream.disposition & Disposition.attached_pic
        if counts and not is_cover and not is_container_track(stream):
            yield stream


def _roles(container: Any, video: Any, tracks: Collection[int] | None) -> Iterator[tuple[str, str]]:
    for stream in _compared(container, video, tracks):
        for role in _ROLES:
            if stream.disposition & role:
                yield stream.type, str(role.name).replace("_", " ")


def _chosen(
    container: Any, video: Any, tracks: Collection[int] | None
) -> Iterator[tuple[str, int]]:
    """Kinds with a default track that is not the first one."""
    flags: dict[str, list[bool]] = {}
    for stream in _compared(container, video, tracks):
        flags.setdefault(stream.type, []).append(bool(stream.disposition & Disposition.default))
    for kind, is_default in flags.items():
        if any(is_default) and not is_default[0]:
            yield kind, is_default.index(True)


def _titles(container: Any, video: Any, tracks: Collection[int] | None) -> Iterator[str]:
    for stream in container.streams:
        counts = tracks is None or stream.index in tracks or stream.index == video.index
        title = stream.metadata.get("title") or stream.metadata.get("name")
        if title and counts and not is_container_track(stream) and stream.type != "attachment":
            yield title


def _crop(video: Any) -> tuple[int, ...]:
    """Rows and columns that players hide at the four sides, read from what PyAV's Matroska muxer writes."""
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as container:
            container.add_stream_from_template(video, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return (0, 0, 0, 0)
    return tuple(_number(buffer.getvalue(), name) for name in _CROP)


def _number(header: bytes, name: bytes) -> int:
    """The value of an element of one or two bytes, 0 where there is none."""
    for size in (1, 2):
        at = header.find(name + bytes((0x80 | size,)))
        if at >= 0:
            return int.from_bytes(header[at + 3 : at + 3 + size], "big")
    return 0


def _boxes(left: Leftovers | None) -> dict[str, int]:
    if left is None:
        return {}
    names = [path_of(place.kind) for place in left.outside]
    names += [path_of(box.kind, "moov") for box in left.movie]
    names += [path_of(box.kind, "moov", "udta") for box in left.unread_user_data]
    for track in left.tracks.values():
        for kind, numbers in track.named.items():
            known = sum(number in left.tracks for number in numbers)
            names += [path_of(kind, "moov", "trak", "tref")] * known
    return dict(Counter(names))
