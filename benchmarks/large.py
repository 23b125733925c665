"""One size through every engine that runs here: whether its frames go untiled, agree, and what memory they take.

    python benchmarks/large.py [--size 3840x2160] [--weights FILE] [--engines reference,openvino]

The shipped rainy image, mirrored until it fills the frame, in as many frames in flight as the engine has slots,
against the trained network between planes, written out plainly in torch and float32. Each engine has a process of
its own, so that its peak of resident memory is its own, and a cached engine, as every run but the first has.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import click
import numpy as np

from vderain.clips import still_clip
from vderain.diagnostics.diagnosis import installed_versions
from vderain.engines import open_engine
from vderain.engines.store.selfcheck import check_images, fitted, planes_from_rgb
from vderain.errors import VderainError
from vderain.frames import Clip, PlaneFormat
from vderain.machine import cpu_fields, cpu_model
from vderain.metrics import psnr
from vderain.options import EngineOptions
from vderain.weights import find_weights, load_network

WAYS = [
    *(("reference", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")),
    *(("openvino", "float16"), ("openvino", "int8"), ("cuda", "float16"), ("tensorrt", "float16")),
]


def rainy_clip(fmt: PlaneFormat, frames: int) -> Clip:
    """The same frame ``frames`` times."""
    image = fitted(check_images()["rainy"], fmt.height, fmt.width)
    return still_clip(planes_from_rgb(image, fmt), fmt, frames)


def plain_change(fmt: PlaneFormat, weights: str | None, out: Path) -> None:
    """What the network predictions without any engine, to a file."""
    import torch

    from vderain.network.planes import PlanesNetwork

    path, card = find_weights("fast", weights)
    network = PlanesNetwork(load_network(path, card), fmt, multiple=card.config.multiple).eval()
    clip = rainy_clip(fmt, card.config.seen_frames)
    planes = [torch.from_numpy(plane.astype(np.float32))[None, None] for plane in clip.inputs]
    with torch.inference_mode():
        np.savez(out, *(change[0, 0].numpy() for change in network(*planes)))


def found_of(options: EngineOptions, fmt: PlaneFormat, expected: Path) -> dict:
    """Agreement, seconds of a frame, peak memory and notes of one engine in this process."""
    with closing(open_engine(options)) as engine:
        spec = engine.open(fmt)
        if spec.precision != options.precision:
            return {"reason": "; ".join(spec.notes)}
        if not expected.exists():  # only built, and checked by itself
            return {}
        clip = rainy_clip(fmt, spec.seen_frames)
        before = peak_mib()
        since = time.perf_counter()
        pending = [engine.submit(clip) for _ in range(engine.slots)]
        predictions = [one.result() for one in pending]
        seconds = (time.perf_counter() - since) / len(predictions)
        peak = peak_mib()
        slots = engine.slots
    with np.load(expected) as arrays:
        plain = [arrays[name] for name in arrays.files]
    agreement = min(
        psnr(*(np.concatenate([plane.ravel() for plane in planes]) for planes in (prediction, plain)),
             peak=fmt.peak)
        for prediction in predictions
    )  # fmt: skip
    notes = [note for note in spec.notes if "stripes" in note]
    return {"slots": slots, "agreement_db": float(agreement), "seconds": seconds, "peak_mib": peak,
            "opened_mib": before, "parts": "; ".join(notes) or "untiled"}  # fmt: skip


def peak_mib() -> float:
    """Of this process, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(size: str, weights: str | None, step: str, expected: Path) -> dict | None:
    """What this script prints for one step, in a process of its own; None where the system ended it."""
    command = [
        sys.executable,
        __file__,
        "--size",
        size,
        "--step",
        step,
        "--expected",
        str(expected),
    ]
    command += ["--weights", weights] if weights else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def report(size: str, weights: str | None, engines: list[str], folder: Path) -> None:
    expected = folder / "expected.npz"
    os.environ["VDERAIN_CACHE"] = str(folder / "cache")
    versions = ", ".join(f"{name} {version}" for name, version in installed_versions().items())
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores; {versions}\n{size}", flush=True)
    if child(size, weights, "plain", expected) is None:
        raise SystemExit("the plain network failed")
    print("| engine | frames in flight | a frame goes | agreement | peak memory | of it before the "
          "first frame | a frame takes |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for step in (f"{engine} {precision}" for engine, precision in WAYS if engine in engines):
        child(size, weights, step, folder / "none")
        found = child(size, weights, step, expected)
        if found is None or "reason" in found:
            print(f"{step}: {found['reason'] if found else 'its process failed'}", flush=True)
            continue
        print(f"| {step} | {found['slots']} | {found['parts']} | {min(found['agreement_db'], 200):.1f} dB "
              f"| {found['peak_mib']:.0f} MiB | {found['opened_mib']:.0f} MiB | {found['seconds']:.2f} s |",
              flush=True)  # fmt: skip


@click.command()
@click.option("--size", default="3840x2160")
@click.option("--weights", help="A weights file; the shipped ones where none is named.")
@click.option("--engines", default="reference,openvino,cuda,tensorrt")
@click.option("--step", hidden=True)
@click.option("--expected", type=click.Path(path_type=Path), hidden=True)
def main(
    size: str, weights: str | None, engines: str, step: str | None, expected: Path | None
) -> None:
    """Print a table."""
    width, height = (int(side) for side in size.split("x"))
    fmt = PlaneFormat("yuv420", width, height)
    if step is None or expected is None:
        with tempfile.TemporaryDirectory() as folder:
            report(size, weights, engines.split(","), Path(folder))
    elif step == "plain":
        plain_change(fmt, weights, expected)
        print("{}")
    else:
        engine, precision = step.split()
        options = EngineOptions(
            engine=engine, precision=precision, weights=weights, wait_engine=True
        )
        try:
            print(json.dumps(found_of(options, fmt, expected)))
        except VderainError as error:
            print(json.dumps({"reason": str(error)}))


if __name__ == "__main__":
    main()
