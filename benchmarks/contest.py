"""What neighbours are worth to a network, and how to give them: one training budget for each way.

    python benchmarks/contest.py DATA FOLDER --initial PER_FRAME_WEIGHTS --steps 800

DATA holds train/ and dev/ as for ``vderain train fast``. A pool of rendered windows is drawn once, without
the training clips named in HELD_BACK; every way starts from the same per-frame weights and learns from the
same samples in the same order. Scored are the rendered dev clips and the clips held back, two consecutive
frames at several places of each. Every way but the per-frame one lets the network take over its neighbours'
luma (``Fusion``), which it is given in order of brightness, or where the name says so as time has them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vderain.alignment import Aligner, aligned, thumbnail
from vderain.frames import RGB_LUMA_WEIGHTS
from vderain.machine import cpu_fields, cpu_model, package_version
from vderain.network.fold import with_frames
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.config.methods import TrainConfig
from vderain.training.data.cache import PictureCache
from vderain.training.data.images import ClipFile, read_window
from vderain.training.data.patches import PatchSampler
from vderain.training.data.sources import load_sources
from vderain.training.data.stacks import grey
from vderain.training.data.synthetic_clips import SequenceMaker
from vderain.training.rain.render import Picture, render_clip
from vderain.weights import find_weights, load_network

HELD_BACK = (
    "kartik_dashcam1.mp4",
    "sam2_01_dog.mp4",
)  # a driving camera, and things that move fast
PATCH, BATCH, RATE = 128, 8, 4e-4
WIDE = 5  # frames of a window: two on either side
Window = npt.NDArray[np.uint8]  # (H, W, 3 WIDE), oldest first
Answer = Callable[[SemiDRDNet, Tensor], Tensor]


GREY = torch.tensor(RGB_LUMA_WEIGHTS).view(1, 3, 1, 1)


def frame(window: Tensor, offset: int) -> Tensor:
    """The frame ``offset`` from the middle one, (N, 3, H, W)."""
    first = 3 * (WIDE // 2 + offset)
    return window[:, first : first + 3]


def median(frames: list[Tensor]) -> Tensor:
    """Of an odd number of frames."""
    return torch.stack(frames).median(0).values


def repaired(
    network: SemiDRDNet, current: Tensor, neighbours: list[Tensor], *, ordered: bool = True
) -> Tensor:
    """The current frame (N, 3, H, W) without its rain, with the luma of its neighbours, likewise RGB."""
    seen = [current]
    if neighbours:
        differences = [((one - current) * GREY).sum(1, keepdim=True) for one in neighbours]
        stack = torch.cat(differences, 1)
        seen.append(stack.sort(1).values if ordered else stack)
    return current + network.change(torch.cat(seen, 1))


def around(*offsets: int, ordered: bool = True) -> Answer:
    """The frame with its neighbours at these offsets."""
    return lambda network, window: repaired(
        network, frame(window, 0), [frame(window, k) for k in offsets], ordered=ordered
    )


def medians(network: SemiDRDNet, window: Tensor) -> Tensor:
    """The frame with the medians of three and of five."""
    of_three = median([frame(window, k) for k in (-1, 0, 1)])
    of_five = median([frame(window, k) for k in range(-2, 3)])
    return repaired(network, frame(window, 0), [of_three, of_five])


def state(network: SemiDRDNet, window: Tensor) -> Tensor:
    """The frame with its predecessor's result and its predecessor; two steps of warm-up, no look-ahead."""
    current = frame(window, -2)
    result = current
    for offset in (-2, -1, 0):
        before, current = current, frame(window, offset)
        with torch.set_grad_enabled(torch.is_grad_enabled() and offset == 0):
            result = repaired(network, current, [result, before], ordered=False).clamp(0, 1)
    return result


@dataclass(frozen=True, slots=True)
class Way:
    frames: int  # of the network
    neighbours: int  # that are aligned
    lookahead: int
    answer: Answer
    is_aligned: bool = True
    shut: str = ""  # a part of the Fusion that stays out of it


NEIGHBOURS = (-2, -1, 1, 2)
WAYS = {
    "per frame": Way(1, 0, 0, around()),
    "three, not aligned": Way(3, 0, 1, around(-1, 1), is_aligned=False),
    "three, aligned": Way(3, 2, 1, around(-1, 1)),
    "three of the past, aligned": Way(3, 2, 0, around(-2, -1)),
    "five, aligned": Way(5, 4, 2, around(*NEIGHBOURS)),
    "five, in order of time": Way(5, 4, 2, around(*NEIGHBOURS, ordered=False)),
    "five, nothing taken before": Way(5, 4, 2, around(*NEIGHBOURS), shut="before"),
    "five, after by features alone": Way(5, 4, 2, around(*NEIGHBOURS), shut="after"),
    "medians of three and five": Way(3, 4, 2, medians),
    "the last result, aligned": Way(3, 1, 0, state),
}


def laid_over(frames: list[Picture], scale: float = 0.0) -> Window:
    """The frames as the middle one shows them."""
    small = [thumbnail(grey(each), 8, scale=scale) for each in frames]
    middle, aligner = len(frames) // 2, Aligner()
    laid = []
    for index, each in enumerate(frames):
        if index == middle:
            laid.append(each)
            continue
        motion = aligner.motion(small[middle], small[index])
        pairs = zip(np.moveaxis(frames[middle], 2, 0), np.moveaxis(each, 2, 0), strict=True)
        laid.append(np.dstack([aligned(np.ascontiguousarray(a), b, motion) for a, b in pairs]))
    return np.concatenate(laid, 2)


class Maker(SequenceMaker):
    """Windows of five both ways, aligned and not, behind each other."""

    def offsets(self, rng: np.random.Generator) -> list[int]:
        return list(range(-(WIDE // 2), WIDE // 2 + 1))

    def laid_over(
        self, rng: np.random.Generator, frames: list[Picture], offsets: list[int]
    ) -> Picture:
        m = self.margin_px
        both = laid_over(list(frames), 1 / rng.uniform(1.0, 4.0)), np.concatenate(frames, 2)
        return np.concatenate(both, 2)[m:-m, m:-m]


def make_pool(data: Path, folder: Path, samples: int) -> tuple[Window, Window]:
    """(S, P, P, 30) windows, aligned and not, and their backgrounds (S, P, P, 3); kept in ``folder``."""
    kept = folder / "pool.npz"
    if not kept.exists():
        import vderain.training.data.patches as patches

        clips = folder / "clips"
        clips.mkdir(parents=True, exist_ok=True)
        for path in (data / "train" / "clean_video").iterdir():
            if path.name not in HELD_BACK and not (clips / path.name).exists():
                (clips / path.name).symlink_to(path)
        config = TrainConfig.load(Path("fast"), ["network={frames=3}"])
        tables = {name: config.sources[name] for name in ("clips", "images")}
        tables["clips"] = {**tables["clips"], "path": str(clips)}
        shares = {"clips": 0.6, "images": 0.4}
        sources = load_sources(tables, data, PictureCache(3000), reach=WIDE // 2)
        patches.SequenceMaker, patches._ALONE_SHARE = Maker, 0.0
        sampler = PatchSampler(
            sources, shares, patch=PATCH, batch=1, dry_share=0.1, seed=5, frames=WIDE
        )
        drawn = [sampler.draw(np.random.default_rng((5, number))) for number in range(samples)]
        np.savez(kept, windows=[d[0] for d in drawn], backgrounds=[d[1] for d in drawn])
    with np.load(kept) as held:
        return held["windows"], held["backgrounds"]


def unit(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


def seen(way: Way, windows: Tensor) -> Tensor:
    """Which half of the channels a way sees."""
    return windows[:, : 3 * WIDE] if way.is_aligned else windows[:, 3 * WIDE :]


def train(way: Way, network: SemiDRDNet, pool: tuple[Window, Window], steps: int) -> float:
    """Train in place; returns seconds."""
    windows, backgrounds = pool
    if way.shut:
        part = network.get_submodule(f"fusion.{way.shut}")
        part.requires_grad_(False)
        if way.shut == "before":
            part.bias.fill_(-40.0)  # its weights are born zero, as the other part's are
    learning = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learning, RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, since = np.random.default_rng(7), time.monotonic()
    network.train()
    for _ in range(steps):
        drawn = np.sort(rng.choice(len(windows), BATCH, replace=False))
        with torch.autocast("cpu", torch.bfloat16):
            result = way.answer(network, seen(way, unit(windows[drawn])))
        loss = F.l1_loss(result.float(), unit(backgrounds[drawn]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.monotonic() - since


@dataclass(frozen=True, slots=True)
class Place:
    """Two consecutive frames of a clip: their windows (2, H, W, 30) and ground truths (2, H, W, 3)."""

    clip: str
    windows: Window
    truths: Window


def test_places(data: Path, per_clip: int) -> Iterator[Place]:
    clean = data / "dev" / "clean_video"
    for path in sorted((data / "dev" / "rendered").glob("*.mp4")):
        truth = next(clean.glob(path.stem.rsplit("_", 1)[0] + ".*"))
        yield from _places(path.stem, path, truth, per_clip)
    for name in HELD_BACK:
        path = data / "train" / "clean_video" / name
        yield from _places(name, None, path, per_clip)


def _places(name: str, rainy: Path | None, truth: Path, count: int) -> Iterator[Place]:
    length = WIDE + 1
    for number in range(count):
        start = 2 + number * 7
        clean = read_window(ClipFile(truth, start, length))
        if rainy is None:
            clean = [cv2.resize(f, (480, 270), interpolation=cv2.INTER_AREA) for f in clean]
            wet = render_clip(np.random.default_rng((11, number)), clean)
        else:
            wet = read_window(ClipFile(rainy, start, length))
        windows = []
        for first in (0, 1):
            window = list(wet[first : first + WIDE])
            windows.append(np.concatenate([laid_over(window), *window], 2))
        middle = WIDE // 2
        yield Place(name, np.stack(windows), np.stack(clean[middle : middle + 2]))


def score(way: Way, network: SemiDRDNet, places: list[Place]) -> dict[str, float]:
    """PSNR in dB, of still and of moving parts too, and flicker in levels; means over the places."""
    network.eval()
    found: dict[str, list[float]] = {}
    for place in places:
        windows = seen(way, unit(place.windows))
        height, width = windows.shape[2:]
        multiple = network.config.multiple
        padded = F.pad(windows, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            result = way.answer(network, padded).float()[..., :height, :width]
        result = (result.clamp(0, 1) * 255).round()
        truth = unit(place.truths) * 255
        error = (result - truth).square().mean(1)
        moving = (truth[1] - truth[0]).abs().amax(0) > 8
        set_name = "held back" if place.clip in HELD_BACK else "rendered"
        told = {
            set_name: _psnr(error),
            "still": _psnr(error[:, ~moving]),
            "moving": _psnr(error[:, moving]) if moving.any() else float("nan"),
            "flicker": float((result[1] - result[0] - (truth[1] - truth[0])).abs().mean()),
        }
        for key, value in told.items():
            if key == set_name or set_name == "rendered":
                found.setdefault(key, []).append(value)
    return {key: float(np.nanmean(values)) for key, values in found.items()}


def _psnr(error: Tensor) -> float:
    return 10 * float(torch.log10(255**2 / error.mean()))


def cost_ms(way: Way, network: SemiDRDNet) -> float:
    """Milliseconds for a frame of 1280x720 in one thread: search, warping, medians and network, in torch."""
    rng = np.random.default_rng(3)
    picture = cv2.resize(rng.integers(0, 256, (90, 160, 3), np.uint8), (1280, 720))
    frames = [np.roll(picture, 3 * k, 1) for k in range(way.neighbours + 1)]
    window = unit(np.concatenate([picture] * WIDE, 2)[None])
    took = []
    for _ in range(5):
        since = time.monotonic()
        if way.neighbours:
            laid_over(frames)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            if way.answer is state:
                repaired(network, frame(window, 0), [frame(window, 0)] * 2)
            else:
                way.answer(network, window)
        took.append(time.monotonic() - since)
    return 1000 * float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps the pool and what was scored")
    parser.add_argument(
        "--initial", required=True, help="per-frame weights that every way starts from"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--places", type=int, default=3)
    parser.add_argument("--costs", action="store_true", help="train nothing, print milliseconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{cpu_model(cpu_fields())}, one thread; torch {package_version('torch')}")
    start = load_network(*find_weights("fast", options.initial))
    assert isinstance(start, SemiDRDNet)
    if options.costs:
        for name, way in WAYS.items():
            network = with_frames(start, way.frames).eval().to(memory_format=torch.channels_last)
            print(f"{name}: {cost_ms(way, network):.0f} ms", flush=True)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    pool = make_pool(options.data.resolve(), options.folder, options.samples)
    places = list(test_places(options.data, options.places))
    for name, way in WAYS.items():
        kept = options.folder / f"{name.replace(' ', '_').replace(',', '')}.json"
        if not kept.exists():
            torch.manual_seed(1)
            network = with_frames(start, way.frames).to(memory_format=torch.channels_last)
            took_s = train(way, network, pool, options.steps)
            told = score(way, network, places) | {"seconds": took_s, "ms": cost_ms(way, network)}
            kept.write_text(json.dumps(told | {"lookahead": way.lookahead}))
        print(name, {k: round(v, 2) for k, v in json.loads(kept.read_text()).items()}, flush=True)


if __name__ == "__main__":
    main()
