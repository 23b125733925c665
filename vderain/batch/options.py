"""Options of a batch: defaults and bounds, for the command line and the library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from vderain.options import EncodeOptions, EngineOptions, RunOptions, check_options, option


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Options of a batch besides those of deraining."""

    order: str = option(
        "name", "Order of the clips; files of one recording, and of cameras that filmed at one time, stay together.",
        choices=("name", "oldest", "newest"),
    )  # fmt: skip
    gate: str = option(
        "off",
        "Leave dry parts as they are: frames encodes dry frames again, smart-copy copies whole dry GOPs bit"
        " by bit where codec and container allow.",
        choices=("off", "frames", "smart-copy"),
    )
    segment_s: float = option(20.0, "Checkpoint interval in seconds.", low=1.0, high=3600.0)
    retries: int = option(
        2, "How often a failed clip is tried again before it is set aside.", low=0, high=20
    )
    settle_s: float = option(
        10.0, "While watching: take a new file once it has not changed for this many seconds.",
        low=0.0, high=3600.0,
    )  # fmt: skip
    join: bool = option(
        False,
        "Also write each unbroken series of a camera's clips as one file, <first clip>-joined.",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings that affect a batch's outputs.

    ``weights_sha256`` distinguishes weights that had the same path, for instance before and after an update.
    """

    batch: BatchOptions = field(default_factory=BatchOptions)
    run: RunOptions = field(default_factory=RunOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    weights_sha256: str = ""

    def identity(self) -> dict[str, Any]:
        """The settings that all segments of a clip must share, as plain values.

        Left out is what changes speed alone (threads, slots, queues), and what applies to whole clips.
        """
        engine, run = asdict(self.engine), asdict(self.run)
        encode = asdict(self.encode)
        for options, names in (
            (engine, ("threads", "wait_engine", "compiled", "slots", "device")),
            (run, ("start_s", "duration_s", "sequence", "decoder", "decoder_gpu")),
            (run, ("queue_frames", "align_threads", "max_memory")),
            (encode, ("overwrite", "pipe_format")),
        ):
            for name in names:
                del options[name]
        cuts = {"gate": self.batch.gate, "segment_s": self.batch.segment_s}
        return {**cuts, **run, **engine, **encode, "weights_sha256": self.weights_sha256}

    def text(self) -> str:
        """The identity as text, to be stored and compared."""
        return json.dumps(self.identity(), sort_keys=True)
