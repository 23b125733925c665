"""What the verdict on a GPU writes into benchmarks/RESULTS.md."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from vderain.diagnostics.diagnosis import installed_versions, nvidia_gpus
from vderain.machine import nvidia_gpu_names, package_version

BEGIN, END = "<!-- benchmarks/gpu.py begin -->", "<!-- benchmarks/gpu.py end -->"


@dataclass
class Findings:
    """What was found so far, as lines of Markdown; ``running`` is the stage that had begun and not ended."""

    tests: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    running: str = ""

    @property
    def measured(self) -> list[str]:
        """All of them but what did not go well."""
        return [*self.tests, *self.networks, *self.runs, *self.profile]


@functools.cache
def gpus() -> tuple[str, ...]:
    """The GPUs of this machine, by nvidia-smi or, where that is missing, by the driver itself."""
    return tuple(nvidia_gpus("nvidia-smi")) or nvidia_gpu_names()


def section(found: Findings) -> str:
    """What RESULTS.md says."""
    versions = {**installed_versions(), "torch-tensorrt": package_version("torch-tensorrt")}
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    ends = (
        ("Failed", found.failures),
        ("Left out, the time was over", found.left_out),
        ("Ended from outside in", [found.running] if found.running else []),
    )
    lines = [
        f"Measured on {date.today()}: {'; '.join(gpus())}. {libraries}.",
        *(f"{how}: {'; '.join(stages)}." for how, stages in ends if stages),
        "",
        *(f"- {line}" for line in found.tests),
        "",
        "| tier | engine | size | network fps | times one frame in flight | reached | share of the peak |",
        "|---|---|---|---|---|---|---|",
        *found.networks,
        "",
        "| tier | engine | size | decoder, encoder | end to end fps (of network) | decode / encode fps "
        "| limited by |",
        "|---|---|---|---|---|---|---|",
        *found.runs,
        "",
        *found.profile,
    ]
    return "\n".join(lines)


def written(found: Findings, path: Path) -> None:
    """Put the section into a file, in place of an earlier one; a file that does not exist gets it alone."""
    before = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    path.write_text(pattern.sub(lambda _: f"{BEGIN}\n{section(found)}\n{END}", before))
