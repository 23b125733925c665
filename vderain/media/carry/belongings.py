"""What goes with an output besides frames and tracks: tags, and the boxes of an MP4 or MOV source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import av

from vderain.errors import SinkError
from vderain.media.carry.sidecar import Sidecar
from vderain.media.io.streams import MP4_FAMILY
from vderain.media.mp4.boxes import Box, BoxError
from vderain.media.mp4.data_tracks import is_foreign
from vderain.media.mp4.graft import PLAIN_TAGS, Graft, graft
from vderain.media.mp4.leftovers import CROP, SPHERICAL, Leftovers, path_of, summary


class Belongings:
    """Adds tags and boxes that FFmpeg does not write to MP4 and MOV; keeps boxes next to other outputs.

    Args:
        leftovers: of the source; None where it is no MP4 or MOV, or cannot be read twice.
        tags: of the source's container, as FFmpeg reads them, without those of the writer.
        muxer: FFmpeg's name of the output's container.
        is_file: whether the complete output can be changed, which a pipe cannot.

    Attributes:
        losses, notes: for the report.

    """

    def __init__(
        self,
        leftovers: Leftovers | None,
        tags: Mapping[str, str],
        muxer: str,
        *,
        is_file: bool = True,
    ) -> None:
        self._left = leftovers
        self._tags = tags
        self._muxer = muxer
        self._can_graft = muxer in MP4_FAMILY and is_file
        self._sidecar: Sidecar | None = None
        self.losses: list[str] = []
        self.notes: list[str] = []
        if leftovers is not None and any(track.second_view for track in leftovers.tracks.values()):
            self.losses.append("second view (MV-HEVC): lost, only the first is derained")
        if leftovers is not None and any(track.dolby_vision for track in leftovers.tracks.values()):
            self.losses.append("Dolby Vision: lost, the output has the image beneath it")
        tracks = leftovers.tracks if leftovers is not None else {}
        if retimed := [str(number) for number, track in tracks.items() if track.other_speed]:
            self.losses.append(
                f"speed: an edit list plays parts of track {', '.join(retimed)} faster, slower or as a still;"
                " the output plays them at the speed of the recording"
            )

    def grafts(self, known: frozenset[str]) -> bool:
        """Whether the complete output is changed; ``known`` are the tags that FFmpeg writes itself."""
        if not self._can_graft:
            return False
        unusual = {key.lower() for key in self._tags} - known
        return bool(unusual) or (self._left is not None and bool(self._carried(self._left)))

    @property
    def boxes(self) -> str:
        """The source's boxes that FFmpeg does not read, as text; "" for none."""
        if self._left is None:
            return ""
        names = [path for path, _ in self._boxes(self._left)]
        return summary(names + [path_of(place.kind) for place in self._left.outside])

    @property
    def can_graft(self) -> bool:
        """Whether the output holds the boxes."""
        return self._can_graft

    def keep_in_sidecar(self, open_sidecar: Callable[[], Sidecar] | None) -> None:
        """Keep boxes that the output's container cannot hold in a file next to it, or report them as lost."""
        if self._can_graft or self._left is None:
            return
        if not self.boxes:
            return
        refusal = f"boxes that {self._muxer} cannot hold ({self.boxes})"
        self.losses += self.frame_losses
        if open_sidecar is None:
            self.losses.append(f"{refusal}: dropped")
            return
        self._sidecar = open_sidecar()
        self._fill(self._sidecar, self._left)
        self.losses.append(f"{refusal}: kept next to the output in {self._sidecar.path.name}")

    def complete(self, path: Path, tracks: Mapping[int, int], *, frames_stay: bool) -> None:
        """Change a complete MP4 or MOV file. Raises OSError, SinkError.

        Args:
            path: of the file.
            tracks: number of a track in the source -> index of its track in the output, from 0.
            frames_stay: whether frames keep their size.

        """
        left = self._left
        tags = {} if left is not None and (left.user_data or left.tags) else self._missing(path)
        try:
            graft(path, Graft(left, tracks, frames_stay, tags, self._muxer == "mov"))
        except (BoxError, StopIteration) as error:
            raise SinkError(f"{path.name}: its index cannot be changed ({error})") from error
        if left is not None and not frames_stay and _crops(left):
            self.losses.append("cropping (clap): lost, the frames have another size")

    def finish(self) -> None:
        """Complete the file next to the output, still under its hidden name."""
        if self._sidecar is not None:
            self._sidecar.finish()

    def publish(self) -> None:
        """Give the file next to the output its name; a failure is reported as a loss."""
        try:
            if self._sidecar is not None:
                self._sidecar.publish()
        except SinkError as error:
            self.losses.append(str(error))
            self.abort()

    def abort(self) -> None:
        """Remove files that have no name yet."""
        if self._sidecar is not None:
            self._sidecar.abort()

    def _missing(self, path: Path) -> dict[str, str]:
        """The tags that FFmpeg did not write."""
        with av.open(f"file:{path}", metadata_errors="surrogateescape") as container:
            written = {key.lower(): value for key, value in container.metadata.items()}
        return {
            key: value
            for key, value in self._tags.items()
            if written.get(key.lower()) != value or key.lower() in PLAIN_TAGS
        }

    def _carried(self, left: Leftovers) -> bool:
        of_tracks = any(
            track.own or track.of_frames or track.language or track.references or is_foreign(track)
            for track in left.tracks.values()
        )
        return bool(left.outside or left.movie or left.user_data or left.tags or of_tracks)

    def _boxes(self, left: Leftovers) -> list[tuple[str, Box]]:
        """Boxes of the index that FFmpeg does not read, with their paths."""
        found = [(path_of(box.kind, "moov"), box) for box in left.movie]
        found += [(path_of(box.kind, "moov", "udta"), box) for box in left.unread_user_data]
        for number, track in left.tracks.items():
            here = ("moov", f"trak {number}")
            found += [(path_of(box.kind, *here), box) for box in track.own if box.kind in _UNREAD]
            found += [(path_of(box.kind, *here, "stsd"), box) for box in track.of_frames]
            found += [(path_of(box.kind, *here, "tref"), box) for box in track.references]
        return found

    @property
    def frame_losses(self) -> list[str]:
        """Losses in how frames are seen, in an output without the boxes."""
        left, losses = self._left, list[str]()
        if left is None or self._can_graft:
            return losses
        kinds = {
            box.kind for track in left.tracks.values() for box in (*track.own, *track.of_frames)
        }
        if kinds & SPHERICAL:
            losses.append(f"spherical or stereo view: {self._muxer} gets none, mp4 and mov keep it")
        if _crops(left):
            losses.append(f"cropping (clap): {self._muxer} gets none, mp4 and mov keep it")
        return losses

    def _fill(self, sidecar: Sidecar, left: Leftovers) -> None:
        for path, box in self._boxes(left):
            sidecar.write_bytes(bytes(box), {"path": path})
        with open(left.path, "rb") as file:
            for place in left.outside:
                file.seek(place.start)
                line = {"path": path_of(place.kind), "position": place.start}
                sidecar.write_from(file, place.size, line)


_UNREAD = (b"uuid",)


def _crops(left: Leftovers) -> bool:
    return any(box.kind == CROP for track in left.tracks.values() for box in track.of_frames)
