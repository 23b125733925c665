"""Score the shipped weights on pairs and clips with ground truth, before and after.

    VDERAIN_DATA=<folder with dev/> python benchmarks/scores.py [--weights W] [--sheet sheet.png]

Pictures and frames go through the engine that a run would take; PSNR and SSIM are of RGB in 8 bit,
before encoding. Dry pictures are compared with themselves: how far does the network move them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from vderain import Derainer, EncodeOptions, EngineOptions, RunOptions
from vderain.clips import upright_clip
from vderain.engines import open_engine
from vderain.frames import Frame
from vderain.interfaces import Engine
from vderain.media import open_source
from vderain.media.rgb import planes_to_rgb
from vderain.metrics import psnr, ssim
from vderain.network.change import apply_change
from vderain.training.datasets import Picture, read_clean, read_halves, read_pairs

PAIRS = {
    "rain800_pairs": read_halves,
    "heavy_pairs": read_pairs,
    "sirr_pairs": read_pairs,
    "roadscene_pairs": read_pairs,
}
EVERY_FRAME = 4  # frames of a clip are alike; every fourth is enough


@dataclass
class Triple:
    """One scored picture."""

    name: str
    rainy: Picture
    derained: Picture
    truth: Picture

    def scores(self) -> list[float]:
        """PSNR and SSIM before, PSNR and SSIM after."""
        return [
            psnr(self.rainy, self.truth), ssim(self.rainy, self.truth),
            psnr(self.derained, self.truth), ssim(self.derained, self.truth),
        ]  # fmt: skip


def pictures(folder: Path, reader, derainer: Derainer) -> Iterator[Triple]:
    for index, sample in enumerate(reader(folder)):
        rainy = sample.background if sample.rainy is None else sample.rainy
        rainy = np.ascontiguousarray(rainy)
        yield Triple(str(index), rainy, derainer(rainy), sample.background)


def clip(rainy: Path, truth: Path, engine: Engine) -> Iterator[Triple]:
    options = {"run": RunOptions(), "encode": EncodeOptions()}
    pairs = zip(open_source(str(rainy), **options), open_source(str(truth), **options), strict=True)
    for index, (wet, dry) in enumerate(pairs):
        assert isinstance(wet, Frame) and isinstance(dry, Frame)
        if index % EVERY_FRAME == 0:
            change = engine.submit(upright_clip(wet)).result()
            derained = apply_change(wet.planes, change, wet.format)
            shown = [
                planes_to_rgb(p, f.format)
                for p, f in ((wet.planes, wet), (derained, wet), (dry.planes, dry))
            ]
            yield Triple(f"{rainy.stem} {index}", *shown)


def all_sets(dev: Path, options: EngineOptions) -> Iterator[tuple[str, list[Triple]]]:
    with Derainer(options) as derainer:
        for name, reader in PAIRS.items():
            yield name, list(pictures(dev / name, reader, derainer))
        yield "clean_kodak", list(pictures(dev / "clean_kodak", read_clean, derainer))
    engine = open_engine(options)
    for rainy in sorted((dev / "rendered").glob("*.mp4")):
        truth = dev / "clean_video" / f"{rainy.stem.rsplit('_', 1)[0]}.mp4"
        yield f"rendered/{rainy.stem}", list(clip(rainy, truth, engine))
    for dry in sorted((dev / "clean_video").glob("*.mp4")):
        yield f"dry/{dry.stem}", list(clip(dry, dry, engine))
    engine.close()


def contact_sheet(rows: list[Triple], path: Path) -> None:
    """Rainy, derained, truth beside each other, one row a picture."""
    size = (480, 320)
    sheet = np.vstack([
        np.hstack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (t.rainy, t.derained, t.truth)])
        for t in rows
    ])  # fmt: skip
    cv2.imwrite(str(path), sheet[..., ::-1])


@click.command()
@click.option("--weights", help="A weights file of your own.")
@click.option("--engine", default="auto", help="Engine to score with.")
@click.option("--precision", default="auto", help="Its precision.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the means here.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a contact sheet (PNG) here.")
def main(weights, engine, precision, json_path, sheet) -> None:
    """Print a line for each set: PSNR and SSIM before and after."""
    dev = Path(os.environ.get("VDERAIN_DATA", ".")) / "dev"
    options = EngineOptions(weights=weights, engine=engine, precision=precision)
    means: dict[str, list[float]] = {}
    rows: list[Triple] = []
    print(f"{'set':32} {'PSNR before':>12} {'after':>8} {'SSIM before':>12} {'after':>8}")
    for name, triples in all_sets(dev, options):
        means[name] = [
            float(np.mean(column)) for column in zip(*(t.scores() for t in triples), strict=True)
        ]
        rows += triples[:: max(1, len(triples) // 2)][:2]
        before, before_ssim, after, after_ssim = means[name]
        print(
            f"{name:32} {before:12.2f} {after:8.2f} {before_ssim:12.4f} {after_ssim:8.4f}",
            flush=True,
        )
    rendered = np.mean([means[name] for name in means if name.startswith("rendered/")], 0)
    print(
        f"{'mean of rendered':32} {rendered[0]:12.2f} {rendered[2]:8.2f} {rendered[1]:12.4f} {rendered[3]:8.4f}"
    )
    if json_path:
        names = ("psnr_before_db", "ssim_before", "psnr_after_db", "ssim_after")
        scores = {
            name: {
                key: round(v, 4) if np.isfinite(v) else None
                for key, v in zip(names, row, strict=True)
            }
            for name, row in means.items()
        }
        json_path.write_text(json.dumps(scores, indent=2))
    if sheet:
        contact_sheet(rows, sheet)


if __name__ == "__main__":
    main()
