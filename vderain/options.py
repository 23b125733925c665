"""Every option once: default, bounds and help, for the library, the command line and configuration files."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from vderain.errors import OptionError


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    expert: bool = False,
) -> Any:
    """A dataclass field that carries its help, bounds (inclusive) and choices as metadata.

    ``expert``: few users need it; the command line takes it as ``--set NAME=VALUE``.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "expert": expert}
    return field(default=default, metadata=metadata)


def check_options(options: Any) -> None:
    """Raise OptionError for a value outside its field's bounds or choices; None always passes."""
    for item in fields(options):
        _check(item, getattr(options, item.name))


def _check(item: Field[Any], value: Any) -> None:
    if value is None or not item.metadata:
        return
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices is not None and value not in choices:
        raise OptionError(f"{item.name}={value!r}: choose one of {', '.join(map(str, choices))}")
    # "not >=" instead of "<", so that NaN fails
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"{low} to {high}" if high is not None else f"at least {low}"
        raise OptionError(f"{item.name}={value!r}: must be {span}")


SHIPPED_TIERS = ("best", "fast", "light")
"""The tiers that have weights in the package, the best and slowest first."""

NEIGHBOURS_ONLY = ("light",)
"""The shipped tiers that change nothing without neighbouring frames."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which network runs, on what, and how exactly."""

    engine: str = option(
        "auto", "Inference engine; auto picks the fastest one that works.",
        choices=("auto", "tensorrt", "cuda", "openvino", "reference"),
    )  # fmt: skip
    precision: str = option(
        "auto", "Numeric precision; auto picks the fastest one that passes the self-check.",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1, or an OpenVINO device such as GPU.")
    tier: str = option(
        "auto",
        "Shipped weights to use; auto takes the best on an NVIDIA GPU, else fast. A camera falls back to faster ones.",
        choices=("auto", *SHIPPED_TIERS),
    )  # fmt: skip
    weights: str | None = option(
        None, "Use this weights file (.safetensors, with its .json card next to it)."
    )
    scale: float = option(
        1.0, "Run the network at this fraction of the frame size: faster, less exact.",
        low=0.25, high=1.0,
    )  # fmt: skip
    threads: int = option(
        0, "CPU threads for the network; 0 uses all.", low=0, high=1024, expert=True
    )
    wait_engine: bool = option(
        False, "Wait for an engine that takes minutes to build; otherwise another one starts.",
        expert=True,
    )  # fmt: skip
    compiled: bool = option(
        False, "Compile the kernels of the cuda engine with torch.compile, a minute per frame size.",
        expert=True,
    )  # fmt: skip
    slots: int = option(
        0, "Frames in flight at once; 0 lets the engine decide.", low=0, high=16, expert=True
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How the output is written.

    CRF 17 of x264 is visually lossless by common judgement (17 to 18), and the
    default because a restored image should not lose to its encoder what the network won.
    """

    codec: str = option(
        "h264", "Output video codec.",
        choices=("h264", "hevc", "av1", "ffv1", "h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    )  # fmt: skip
    crf: int | None = option(
        None,
        "Constant quality; lower is better [default: 17 for h264, 19 for hevc, 24 for av1].",
        low=0,
        high=63,
    )
    preset: str | None = option(
        None,
        "Encoder preset, as the encoder names it [default: faster for h264, fast for hevc, 8 for av1].",
    )
    bitrate: int | None = option(
        None, "Average bit rate in kbit/s, instead of a constant quality.", low=10, high=1_000_000
    )
    bit_depth: int | None = option(
        None, "Output bits per sample, 8 or 10 [default: as the input].", choices=(8, 10),
        expert=True,
    )  # fmt: skip
    hdr: str = option(
        "refuse",
        "HDR video (PQ, HLG): refuse it, or keep HDR. The network was not trained on HDR.",
        choices=("refuse", "keep"),
    )
    interlaced: str = option(
        "refuse",
        "Video flagged as interlaced: refuse it, deinterlace it first, or keep its frames (where they are"
        " progressive and the flag is wrong).",
        choices=("refuse", "deinterlace", "keep"),
    )
    pipe_format: str = option(
        "matroska", "Container on standard output.", choices=("matroska", "y4m"), expert=True
    )
    overwrite: bool = option(False, "Replace existing output files.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.crf is not None and self.bitrate is not None:
            raise OptionError(
                f"crf={self.crf} and bitrate={self.bitrate} exclude each other: choose one"
            )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What part of the input is derained, and how strongly."""

    start_s: float = option(0.0, "Start at this time, in seconds.", low=0.0, high=1e7)
    duration_s: float | None = option(
        None, "Process at most this many seconds.", low=0.001, high=1e7
    )
    strength: float = option(1.0, "Fraction of the rain to remove.", low=0.0, high=1.0)
    sequence: bool = option(
        False, "The images of the folder are consecutive frames, so neighbours are used."
    )
    decoder: str = option(
        "software",
        "Video decoder; nvdec decodes on an NVIDIA GPU and keeps the frames there (not yet run on a GPU).",
        choices=("software", "nvdec"), expert=True,
    )  # fmt: skip
    decoder_gpu: int | None = option(
        None, "GPU that nvdec decodes on, counted from 0 [default: the engine's].",
        low=0, high=63, expert=True,
    )  # fmt: skip
    lookahead: int | None = option(
        None,
        "Maximum number of future frames used [default: as many as the weights ask for].",
        low=0,
        high=4,
        expert=True,
    )
    queue_frames: int = option(
        4, "Frames buffered between two stages.", low=1, high=64, expert=True
    )
    align_threads: int = option(
        0, "Threads that align neighbouring frames; 0 uses half of the cores, at most 8.",
        low=0, high=64, expert=True,
    )  # fmt: skip
    max_memory: float | None = option(
        None,
        "Memory in GiB that the frames of a video may take [default: what is free, at least 4].",
        low=0.001,
        high=1e5,
        expert=True,
    )

    def __post_init__(self) -> None:
        check_options(self)


def decoding_for(run: RunOptions, engine: EngineOptions) -> RunOptions:
    """The options of a run that decodes on the GPU that its engine runs on, unless another one is asked for."""
    kind, _, number = engine.device.lower().partition(":")
    if run.decoder_gpu is not None or kind != "cuda" or not number.isdecimal():
        return run
    return replace(run, decoder_gpu=int(number))
