"""Every option once: default, bounds and help, for the library, the command line and configuration files."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from vderain.errors import OptionError


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """A dataclass field that carries its help, bounds (inclusive) and choices as metadata."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=metadata)


def check_options(options: Any) -> None:
    """Raise OptionError for a value outside its field's bounds or choices; None always passes."""
    for item in fields(options):
        _check(item, getattr(options, item.name))


def _check(item: Field[Any], value: Any) -> None:
    if value is None or not item.metadata:
        return
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    flag = "--" + item.name.removesuffix("_s").replace("_", "-")
    if choices is not None and value not in choices:
        raise OptionError(f"{flag} {value}: choose one of {', '.join(map(str, choices))}")
    # "not >=" instead of "<", so that NaN fails
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"{low} to {high}" if high is not None else f"at least {low}"
        raise OptionError(f"{flag} {value}: must be {span}")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which network runs, on what, and how exactly."""

    engine: str = option(
        "auto", "What runs the network; auto takes the fastest usable one.",
        choices=("auto", "tensorrt", "cuda", "openvino", "reference"),
    )  # fmt: skip
    precision: str = option(
        "auto", "Arithmetic of the network; auto takes the fastest that passes the self-check.",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1, or an OpenVINO device such as GPU.")
    tier: str = option("fast", "Which of the shipped weights to use.", choices=("fast",))
    weights: str | None = option(
        None, "A weights file of your own (.safetensors with its card beside it)."
    )
    scale: float = option(
        1.0, "Compute the change at this size of the picture.", low=0.25, high=1.0
    )
    threads: int = option(0, "CPU threads for the network; 0 takes all.", low=0, high=1024)
    wait_engine: bool = option(
        False,
        "Wait for an engine that must be built for minutes, instead of beginning with another.",
    )
    compiled: bool = option(
        False,
        "Let torch.compile make the cuda engine's kernels, which takes a minute for each size.",
    )
    slots: int = option(0, "Frames in flight at once; 0 leaves it to the engine.", low=0, high=16)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How the output is written.

    CRF 17 of x264 at preset ``fast`` is visually lossless by common judgement (17 to 18), and the
    default because a restored picture should not lose to its encoder what the network won.
    """

    codec: str = option(
        "h264", "Video codec of the output.",
        choices=("h264", "hevc", "av1", "ffv1", "h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    )  # fmt: skip
    crf: int | None = option(
        None,
        "Constant quality, lower is better (default: 17 for h264, 19 for hevc, 24 for av1).",
        low=0,
        high=63,
    )
    preset: str | None = option(
        None, "Encoder preset, in the encoder's own words (default: fast; 8 for av1)."
    )
    bitrate: int | None = option(
        None, "Average bit rate in kbit/s, instead of --crf.", low=10, high=1_000_000
    )
    bit_depth: int | None = option(
        None, "8 or 10 bits per sample in the output (default: as the input).", choices=(8, 10)
    )
    hdr: str = option(
        "refuse",
        "What to do with PQ and HLG video: refuse, or keep (the network was not trained on it).",
        choices=("refuse", "keep"),
    )
    interlaced: str = option(
        "refuse",
        "What to do with video that is flagged as interlaced: refuse, deinterlace first, or keep its frames"
        " as they are, where they are progressive and the flag is wrong.",
        choices=("refuse", "deinterlace", "keep"),
    )
    pipe_format: str = option(
        "matroska", "Container written to standard output.", choices=("matroska", "y4m")
    )
    overwrite: bool = option(False, "Replace an existing output.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.crf is not None and self.bitrate is not None:
            raise OptionError("--crf and --bitrate exclude each other: choose one")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What part of the input is derained, and how strongly."""

    start_s: float = option(0.0, "Begin at this time, in seconds.", low=0.0, high=1e7)
    duration_s: float | None = option(None, "Stop after this many seconds.", low=0.001, high=1e7)
    strength: float = option(1.0, "Share of the rain to take out.", low=0.0, high=1.0)
    decoder: str = option(
        "software",
        "What decodes video; nvdec is an NVIDIA GPU's decoder, whose pictures stay there (not yet run on a GPU).",
        choices=("software", "nvdec"),
    )  # fmt: skip
    lookahead: int | None = option(
        None,
        "Frames that a frame may wait for, where the network looks at several [default: as the weights ask].",
        low=0,
        high=4,
    )
    queue_frames: int = option(4, "Frames held between two stages.", low=1, high=64)

    def __post_init__(self) -> None:
        check_options(self)
