"""The data that travels between the stages: plane formats, frames, packets, clips. No I/O, no torch.

Shape legend used throughout: T frames of a clip, H x W samples of a plane, sx and sy the horizontal
and vertical chroma subsampling factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]  # (H, W), uint8 for 8 bit, uint16 above
Layout = Literal["yuv420", "yuv422", "yuv440", "yuv444", "gray", "rgb"]
Matrix = Literal["bt601", "bt709", "bt2020"]

DEFAULT_RATE = Fraction(25)  # frames per second of a video that has no rate

SUBSAMPLING: dict[Layout, tuple[int, int]] = {
    "yuv420": (2, 2),
    "yuv422": (2, 1),
    "yuv440": (1, 2),
    "yuv444": (1, 1),
    "gray": (1, 1),
    "rgb": (1, 1),
}

LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {  # (Kr, Kb) of ITU-R BT.601, BT.709, BT.2020
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
# Of R, G and B in the luma that RGB images are aligned and compared by: BT.601's.
RGB_LUMA_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class PlaneFormat:
    """The layout of a frame's samples and the colours they mean.

    Everything an engine needs to know about its input; two frames of equal format share an engine.
    ``matrix`` and ``full_range`` describe YUV and gray; RGB planes come in the order R, G, B and are
    always full range. Samples above 8 bit are stored in the low bits of uint16.
    """

    layout: Layout
    width: int
    height: int
    bit_depth: int = 8
    matrix: Matrix = "bt709"
    full_range: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a frame needs at least one pixel, got {self.width}x{self.height}")
        if not 8 <= self.bit_depth <= 16:
            raise ValueError(f"bit depth must be 8 to 16, got {self.bit_depth}")
        if self.layout == "rgb" and not self.full_range:
            raise ValueError("RGB planes are always full range")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of every plane."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def subsampling(self) -> tuple[int, int]:
        """(sx, sy) of the chroma planes; (1, 1) where there are none."""
        return SUBSAMPLING[self.layout]

    @property
    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of each plane; odd sizes round chroma up."""
        luma = (self.height, self.width)
        if self.layout == "gray":
            return (luma,)
        sx, sy = self.subsampling
        chroma = (-(-self.height // sy), -(-self.width // sx))
        return (luma, chroma, chroma)

    def clip_shapes(self, frames: int) -> tuple[tuple[int, int], ...]:
        """(H, W) of each plane of a clip that shows so many frames: the frame's, and its neighbours' luma."""
        shapes = self.plane_shapes
        return (*shapes, *shapes[:1] * (frames - 1))

    @property
    def peak(self) -> int:
        """The largest sample value that the bit depth can hold."""
        return (1 << self.bit_depth) - 1

    def padded(self, multiple: int) -> PlaneFormat:
        """The smallest format of at least this size whose sides are multiples of ``multiple``.

        And of the subsampling, so that every chroma sample covers whole pixels.
        """
        across, down = (math.lcm(multiple, factor) for factor in self.subsampling)
        return replace(
            self, width=-(-self.width // across) * across, height=-(-self.height // down) * down
        )

    def rotated(self, quarter_turns: int) -> PlaneFormat:
        """The format after ``quarter_turns`` turns by 90 degrees."""
        if quarter_turns % 2 == 0:
            return self
        swapped: dict[Layout, Layout] = {"yuv422": "yuv440", "yuv440": "yuv422"}
        layout = swapped.get(self.layout, self.layout)
        return replace(self, layout=layout, width=self.height, height=self.width)

    def __str__(self) -> str:
        """Compact text for reports: ``1280x720 yuv420 8 bit bt709 limited``."""
        colour = "" if self.layout == "rgb" else f" {self.matrix}"
        span = "full" if self.full_range else "limited"
        return f"{self.width}x{self.height} {self.layout} {self.bit_depth} bit{colour} {span}"


class DevicePlanes(Sequence[Plane]):
    """The planes of a 4:2:0 image that lies on a GPU, in the order in which its decoder and its encoder have them.

    Code that knows this class uses the samples where they are. All other code reads it like a tuple of planes; the
    first access copies them to the host.

    Attributes:
        format: what the planes are; even width and height.
        luma, chroma: (H, W) and (H / 2, W / 2, 2), U before V; uint8, or uint16 with the samples in the
            high bits (NV12, P010). Both support DLPack and are complete on the device's default stream.
        device: where they lie, in DLPack's words: (kind, number).

    """

    def __init__(
        self,
        fmt: PlaneFormat,
        luma: Any,
        chroma: Any,
        device: tuple[int, int],
        download: Callable[[], tuple[Plane, ...]],
    ) -> None:
        if fmt.layout != "yuv420" or fmt.width % 2 or fmt.height % 2:
            raise ValueError(f"only 4:2:0 of an even size can be on a device, not {fmt}")
        self.format = fmt
        self.luma = luma
        self.chroma = chroma
        self.device = device
        self._download = download

    @property
    def empty_bits(self) -> int:
        """How many low bits of each stored sample are empty."""
        return 8 * self.format.dtype.itemsize - self.format.bit_depth

    @cached_property
    def host(self) -> tuple[Plane, ...]:
        """The planes in the host's memory."""
        return self._download()

    def __len__(self) -> int:
        return len(self.format.plane_shapes)

    @overload
    def __getitem__(self, index: int) -> Plane: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Plane, ...]: ...
    def __getitem__(self, index: int | slice) -> Plane | tuple[Plane, ...]:
        return self.host[index]

    def __repr__(self) -> str:
        return f"DevicePlanes({self.format}, device={self.device})"


@dataclass(frozen=True, slots=True)
class ColorTags:
    """The colour description of a stream as FFmpeg's code points, written as they came (2 or 0: unspecified)."""

    range: int = 0
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    chroma_location: int = 0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """One decoded image: the decoder's own planes and when they are shown.

    Attributes:
        planes: one array (H, W) per plane, shapes and dtype as ``format`` says; may be read-only views, or
            ``DevicePlanes``.
        format: layout, size, bit depth and the meaning of the colours.
        pts: presentation time in ``time_base`` units.
        time_base: seconds per unit.
        duration: in ``time_base`` units, 0 where unknown.
        alpha: (H, W) of the same dtype, or None; passes untouched.
        tags: the colour description to write.
        rotation: degrees counter-clockwise to turn the stored image for display, a multiple of 90.
        discontinuity: True on the first frame after a cut in the stream that clips must not span.
        name: the file name of an image from a folder, "" for video.
        metadata: what the sink needs to give back besides samples (EXIF, ICC, HDR), opaque to all other stages.
        messages: what stood inside the video stream with it (user data, captions), opaque likewise.

    """

    planes: Sequence[Plane]
    format: PlaneFormat
    pts: int
    time_base: Fraction
    duration: int = 0
    alpha: Plane | None = None
    tags: ColorTags = field(default_factory=ColorTags)
    rotation: int = 0
    discontinuity: bool = False
    name: str = ""
    metadata: Any = None
    messages: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.time_base <= 0:
            raise ValueError(f"time_base must be positive, got {self.time_base}")
        if isinstance(self.planes, DevicePlanes):
            if self.planes.format != self.format:
                raise ValueError(f"planes of {self.planes.format} do not fit {self.format}")
            return
        shapes = tuple(plane.shape for plane in self.planes)
        if shapes != self.format.plane_shapes:
            raise ValueError(
                f"planes {shapes} do not fit {self.format}: {self.format.plane_shapes}"
            )
        for plane in self.planes:
            if plane.dtype != self.format.dtype:
                raise ValueError(
                    f"planes of {self.format} are {self.format.dtype}, got {plane.dtype}"
                )

    @property
    def time_s(self) -> float:
        """Presentation time in seconds, for display only."""
        return float(self.pts * self.time_base)

    def __repr__(self) -> str:
        return f"Frame({self.format}, pts={self.pts}, time_base={self.time_base})"


@dataclass(frozen=True, slots=True)
class PassedPacket:
    """A packet that travels from the source's container to the sink's untouched; ``payload`` is opaque."""

    stream_index: int
    payload: Any


class SeenFrame(Protocol):
    """A decoded frame, turned upright, as the clips around it see it."""

    @property
    def number(self) -> int:
        """No other frame of this process has it."""
        ...

    @property
    def planes(self) -> Sequence[Plane]:
        """As of ``Frame``."""
        ...

    @property
    def luma(self) -> Plane:
        """(H, W), in the host's memory."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A neighbour of a clip's frame, and its motion from there.

    Attributes:
        frame: the frame; the clip's own where there is no neighbour.
        offset: how many frames later it is; 0 where there is none.
        flow: (h, w, 2) float32 on the grid of half thumbnails, in its pixels: its content's place minus that in the
            clip's frame, (x, y); None where it is used as it is.
        hidden: uint8 on any smaller grid: 255 where the clip's own samples stand in; None for everywhere.

    """

    frame: SeenFrame
    offset: int
    flow: npt.NDArray[np.float32] | None
    hidden: npt.NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, eq=False)
class Unaligned:
    """The frames of a clip before its neighbours are aligned, for an engine that has their luma already.

    Attributes:
        frame: the clip's own.
        neighbours: all T - 1 of them.
        ranks: as of ``NetworkConfig``: those that the clip holds once they are aligned; () for all.

    """

    frame: SeenFrame
    neighbours: tuple[Neighbour, ...]
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """What the network sees for one output frame: the frame, and the luma of its T - 1 neighbours.

    Attributes:
        planes: of the frame, turned upright, as ``format`` says.
        neighbours: their luma, aligned to the frame and in order of brightness (``vderain.alignment``), of the
            ranks that the network sees; the frame's own luma where there is none.
        floor: luma (H, W) that the change must not darken a pixel below (``alignment.floor_of``); None
            where no neighbour is valid. The network does not see it.
        unaligned: what ``neighbours`` and ``floor``, empty then, are to be made of (``clips.aligned_clip``).

    """

    planes: Sequence[Plane]
    format: PlaneFormat
    neighbours: Sequence[Plane] = ()
    floor: Plane | None = None
    unaligned: Unaligned | None = None

    @property
    def inputs(self) -> tuple[Plane, ...]:
        """All planes in the order of the network's inputs, of the shapes ``format.clip_shapes`` gives."""
        return (*self.planes, *self.neighbours)


def rgb_luma(planes: Sequence[Plane]) -> Plane:
    """The luma (H, W) of R, G and B by ``RGB_LUMA_WEIGHTS``: float32, not rounded."""
    red, green, blue = (
        np.float32(weight) * plane for weight, plane in zip(RGB_LUMA_WEIGHTS, planes, strict=True)
    )
    return np.asarray(red + green + blue)


def network_matrix(tag: int, height: int) -> Matrix:
    """The matrix of the network's view of YUV, from FFmpeg's code point; untagged follows the image's height."""
    if tag == 1:
        return "bt709"
    if tag in (9, 10):
        return "bt2020"
    if tag in (4, 5, 6, 7):
        return "bt601"
    return "bt709" if height >= 720 else "bt601"
