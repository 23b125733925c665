"""Compares an output with its source, by their packets; decodes only where asked."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vderain.errors import SourceError
from vderain.media.carry.sidecar import track_sidecar_path
from vderain.media.carry.trial import family
from vderain.media.frames.timing import FAR_S
from vderain.media.io.index import packets_of
from vderain.media.io.open import open_container, pick_video
from vderain.media.verify.contents import Contents, Other
from vderain.media.verify.facts import Facts, differences

_SYNC_S = Fraction(1, 10)  # more than rounding of containers, and than the run-up of a decoder
_SHOWN = 3  # number of differing frames that a message names


def problems_of(
    source: str | Contents, output_path: str, *, frames: int | None = None, decode: bool = False
) -> list[str]:
    """What an output lacks of its source, one line each; an empty list for a verified output.

    It compares the number of video frames (with ``frames``, where that is given), the time of each as exactly as the
    container stores it, the end, the other tracks, which may be in sidecars, the content of all sound, and whether
    there is a timecode. Where the source has another number of packets, each frame must have the time of one of
    them. ``decode`` also decodes all video. In a container without negative times, all times may be later by the
    same amount; a clock that begins far from zero may begin at zero instead.
    ``source`` is a path, or its contents where it was read before.
    """
    try:
        known = source if isinstance(source, Contents) else Contents.read(source)
        output = Contents.read(output_path)
        failures = _failures(output_path) if decode else None
    except SourceError as error:
        return [str(error)]
    problems = [*_frame_problems(known, output, frames), *_track_problems(known, output)]
    if known.timecode and output.holds_timecode and output.timecode is None:
        problems.append(f"its timecode {known.timecode} is missing")
    if failures:
        problems.append(f"{failures} packets of its video cannot be decoded")
    elif failures is not None and failures < 0:
        problems.append(f"{-failures} frames of its video are not shown")
    return problems


def verified(
    source: Facts,
    given: Contents | None,
    output_path: str,
    *,
    frames: int,
    timed: bool,
    losses: Collection[str],
) -> list[str]:
    """What an output lacks that no loss names yet, one line each.

    Args:
        source: properties of the source besides its packets.
        given: frames and packets that went into the output; None where others compare them.
        output_path: a complete file.
        frames: number of frames that went in.
        timed: whether the container stores times.
        losses: losses named so far.

    """
    try:
        output = Contents.read(output_path)
        found = [*differences(source, Facts.read(output_path), _rate(output))]
    except SourceError as error:
        return [f"the output cannot be read again: {error}"]
    named = " ".join(losses).lower()
    problems = [f"{line}: not in the output" for word, line in found if word not in named]
    if given is None:
        return problems
    if timed:
        problems += _frame_problems(given, output, frames)
        problems += _track_problems(given, output)
        return problems
    if len(output.times) != frames:
        problems.append(f"it has {len(output.times)} video frames instead of {frames}")
    return [*problems, *_length_problems(given, output)]


def _length_problems(source: Contents, output: Contents) -> Iterator[str]:
    """Whether sound lasts as long as it did, in a container that gives it times by its own count."""
    left = list(output.others.values())
    for track in source.others.values():
        found = next((other for other in left if track.contents & other.contents), None)
        if track.kind != "audio" or found is None:
            continue
        left.remove(found)
        was, now = track.span_s, found.span_s
        if was is None or now is None:
            continue
        lasted_s, lasts_s = was[1] - was[0], now[1] - now[0]
        if abs(lasts_s - lasted_s) > _SYNC_S:
            yield (
                f"track {track.name} lasts {float(lasts_s):.3f} s instead of {float(lasted_s):.3f} s"
            )


def _rate(contents: Contents) -> Fraction | None:
    """Frames per second by their times; None for fewer than two."""
    if len(contents.times) < 2 or max(contents.times) == min(contents.times):
        return None
    lasts_s = (max(contents.times) - min(contents.times)) * contents.unit
    return (len(contents.times) - 1) / lasts_s


def _rising(times: array[int]) -> Iterator[int]:
    """Times as frames get them: a repeated time is moved behind the one before."""
    last: int | None = None
    for time in times:
        last = time if last is None else max(time, last + 1)
        yield last


def _frame_problems(source: Contents, output: Contents, frames: int | None) -> Iterator[str]:
    source, output = source.sorted(), output.sorted()
    source.times = array("q", _rising(source.times))
    wanted = len(source.times) if frames is None else frames
    if len(output.times) != wanted:
        yield f"it has {len(output.times)} video frames instead of {wanted}"
    if not output.times or not source.times:
        return
    exact = (source.unit / output.unit).denominator == 1
    tolerance = Fraction(0) if exact else output.unit
    begun = source.times[0] * source.unit
    late = output.times[0] * output.unit - begun
    shifts = [(Fraction(0), tolerance)]
    if late > tolerance or (late < 0 and begun >= FAR_S):
        shifts.append((late, tolerance + output.unit))
    if len(output.times) != len(source.times):
        # The first frame may be one of the missing ones, so a late first frame alone shows no shift.
        wrong = min(_strangers(source, output, *shift) for shift in shifts)
        if wrong:
            yield f"{wrong} video frames have a time that no frame of the source has"
        return
    shift, tolerance = shifts[-1]
    yield from _time_problems(source, output, shift, tolerance)
    yield from _end_problems(source, output, shift)


def _time_problems(
    source: Contents, output: Contents, shift: Fraction, tolerance: Fraction
) -> Iterator[str]:
    wrong = [
        place
        for place, (ours, theirs) in enumerate(zip(output.times, source.times, strict=True))
        if abs(ours * output.unit - theirs * source.unit - shift) > tolerance
    ]
    if wrong:
        places = ", ".join(map(str, wrong[:_SHOWN]))
        more = ", ..." if len(wrong) > _SHOWN else ""
        yield f"{len(wrong)} video frames have another time than in the source (frames {places}{more})"


def _strangers(source: Contents, output: Contents, shift: Fraction, tolerance: Fraction) -> int:
    """Number of the output's frames with a time that no frame of the source, each counted once, has."""
    strangers = place = 0
    for ours in output.times:
        at = ours * output.unit - shift
        while place < len(source.times) and source.times[place] * source.unit < at - tolerance:
            place += 1  # not in the output
        if place < len(source.times) and source.times[place] * source.unit <= at + tolerance:
            place += 1
        else:
            strangers += 1
    return strangers


def _end_problems(source: Contents, output: Contents, shift: Fraction) -> Iterator[str]:
    """Whether the last frame lasts as long; containers without durations estimate it."""
    count = len(source.times)
    if count < 2:
        return
    frame_s = (source.times[-1] - source.times[0]) * source.unit / (count - 1)
    short_s = source.end * source.unit + shift - output.end * output.unit
    if abs(short_s) > frame_s * Fraction(3, 2):
        yield f"its video ends {float(abs(short_s)):.3f} s {'early' if short_s > 0 else 'late'}"


def _track_problems(source: Contents, output: Contents) -> Iterator[str]:
    left = list(output.others.values())
    for track in source.others.values():
        # A container may have forced another codec, except for sound.
        found = next(
            (
                other
                for other in left
                if other.kind == track.kind
                and (track.kind != "audio" or family(other.codec) == family(track.codec))
            ),
            None,
        )
        if track_sidecar_path(Path(output.path), track.index, track.codec).exists():
            continue
        if found is None:
            if track.packets or track.kind == "attachment":
                yield f"track {track.name} is missing"
            continue
        left.remove(found)
        if track.kind == "audio" and not track.contents & found.contents:
            yield f"track {track.name} has another content"
        elif track.kind == "audio" and source.times and output.times:
            yield from _sync_problems(source, output, track, found)


def _sync_problems(source: Contents, output: Contents, track: Other, found: Other) -> Iterator[str]:
    """Whether a track begins and ends at the same time relative to the first frame."""
    was, now = track.span_s, found.span_s
    if was is None or now is None:
        return
    began_s = min(source.times) * source.unit
    begins_s = min(output.times) * output.unit
    for word, was_s, is_s in zip(("begins", "ends"), was, now, strict=True):
        was_s, is_s = was_s - began_s, is_s - begins_s
        if abs(is_s - was_s) > _SYNC_S:
            way = "late" if is_s > was_s else "early"
            yield f"track {track.name} {word} {float(abs(is_s - was_s)):.3f} s {way}"


def _failures(path: str) -> int:
    """Number of video packets that fail to decode; negative, the number of images missing otherwise."""
    failures = sent = shown = 0
    with closing(open_container(path)) as container:
        stream = pick_video(container, path)
        context = stream.codec_context
        context.thread_type = "AUTO"
        for packet in packets_of(container, path, stream):
            sent += not packet.is_discard
            try:
                shown += _intact(context.decode(packet))
            except av.FFmpegError:
                failures += 1
        try:
            shown += _intact(context.decode(None))
        except av.FFmpegError:
            failures += 1
    return failures or min(0, shown - sent)


def _intact(images: list[Any]) -> int:
    return sum(not image.is_corrupt for image in images)
