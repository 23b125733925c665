"""A frame in tiles, for an engine whose frame does not fit: no seams, and the means of the whole frame."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.networks import TINY
from vderain.engines.backends import openvino as openvino_module
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.engines.backends.tiles import TiledEngine, plan_tiles
from vderain.engines.store.cache import EngineCache
from vderain.frames import Clip, PlaneFormat
from vderain.interfaces import EngineSpec
from vderain.network.config import FAST, PAPER
from vderain.network.inference.graph import planes_graph
from vderain.network.inference.means import GatheringNetwork, GivenNetwork
from vderain.network.inference.memory import means_length, reach_px, working_bytes
from vderain.options import EngineOptions
from vderain.weights import find_weights, load_network

NEAR = replace(
    TINY, dilations=(1, 2), unshuffle=2
)  # looks less far, so that small frames have tiles
CONFIGS = {
    "packed": NEAR,
    "coarse": replace(NEAR, rain_blocks=2, coarse_blocks=(1,)),
    "full, three frames": replace(NEAR, unshuffle=1, frames=3),
    "ungated": replace(NEAR, squeeze_ratio=0),
}
SIZES = [(160, 128), (151, 127)]


@pytest.fixture(scope="module", params=CONFIGS)
def path(request, tmp_path_factory):
    return write_weights(
        tmp_path_factory.mktemp("weights") / "w.safetensors", CONFIGS[request.param]
    )


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "coarse.safetensors"
    return write_weights(path, CONFIGS["coarse"])


def uneven_clip(fmt, frames):
    """A picture whose halves have other means."""
    clip = make_clip(fmt, frames=frames)
    for luma in (clip.planes[0], *clip.neighbours):
        luma[:] = luma * np.linspace(0.8, 1.2, luma.shape[1])
    return clip


def share_of(config, fmt, share):
    return int(share * working_bytes(config, fmt.height, fmt.width, 4))


class TorchTiles:
    """A ``SlotEngine`` of a tile over a torch graph."""

    slots = 1

    def __init__(self, module):
        self.module, self.shapes = module.eval(), set()

    def start(self, planes):
        self.shapes.add(planes[0].shape)
        inputs = [torch.from_numpy(np.array(plane, np.float32))[None, None] for plane in planes]
        with torch.inference_mode():
            answers = self.module(*inputs)
        self.answer = (answers,) if isinstance(answers, torch.Tensor) else answers
        return self

    def result(self):
        return tuple(answer[0, 0].numpy() for answer in self.answer)

    def close(self):
        pass


@pytest.mark.parametrize("size", SIZES)
def test_with_the_means_of_the_whole_frame_tiles_meet_without_a_seam(path, size, monkeypatch):
    weights, card = find_weights("fast", str(path))
    config, fmt = card.config, make_format("yuv420", *size)
    padded = fmt.padded(config.multiple)
    network = load_network(weights, card)
    tiling = plan_tiles(config, padded, 4, share_of(config, padded, 0.6))
    assert len(tiling.computed()) > 1
    clip = uneven_clip(fmt, config.frames)
    length = means_length(config)
    given = TorchTiles(GivenNetwork(planes_graph(network, tiling.tile)))
    gathering = TorchTiles(torch.nn.Identity())
    if length > 1:
        whole = TorchTiles(GatheringNetwork(planes_graph(network, padded)))
        shapes = padded.clip_shapes(config.frames)
        planes = [_padded(plane, shape) for plane, shape in zip(clip.inputs, shapes, strict=True)]
        (means,) = whole.start([*planes, np.zeros((1, length), np.float32)]).result()
        monkeypatch.setattr(gathering, "start", lambda planes: _Ready(means))
    spec = EngineSpec("torch", "float32", "CPU", "tiny", config.frames)
    engine = TiledEngine(gathering, given, tiling, length, fmt, spec)
    change = engine.change(clip).result()
    expected = expected_change(path, clip)
    worst = max(np.abs(a - b).max() for a, b in zip(change, expected, strict=True))
    assert worst < 1e-3
    assert given.shapes == {tiling.tile.plane_shapes[0]}


class _Ready:
    def __init__(self, means):
        self.means = means

    def result(self):
        return (self.means,)


def _padded(plane, shape):
    below, right = (want - have for want, have in zip(shape, plane.shape, strict=True))
    return np.pad(plane, ((0, below), (0, right)), mode="edge")


def openvino(path, **options):
    found = find_weights("fast", str(path))
    return OpenVinoBackend(*found, EngineOptions(precision="float32", **options), EngineCache())


def test_openvino_goes_in_tiles_where_little_memory_is_free(coarse, cache_folder, monkeypatch):
    config = find_weights("fast", str(coarse))[1].config
    fmt = make_format("yuv420", *SIZES[1])
    clip = uneven_clip(fmt, config.frames)
    free = share_of(config, fmt.padded(config.multiple), 0.9)
    with closing(openvino(coarse).open(fmt)) as engine:
        whole = engine.change(clip).result()
    monkeypatch.setattr(openvino_module, "available_bytes", lambda: free)
    backend = openvino(coarse, slots=1)
    with closing(backend.open(fmt)) as engine:
        change = engine.change(clip).result()
        notes = engine.open(fmt).notes
    assert "too little memory for a whole frame: it is computed in" in notes[-1]
    assert [plane.shape for plane in change] == list(fmt.plane_shapes)
    assert agreement_db(change, whole, fmt) > 50
    own = _with_own_means(backend, fmt, clip, monkeypatch)
    assert agreement_db(change, whole, fmt) > agreement_db(own, whole, fmt) + 3


def _with_own_means(backend, fmt, clip, monkeypatch):
    """The same if every tile had its own means."""
    from vderain.engines.backends import tiles

    monkeypatch.setattr(tiles, "ROUNDS", 0)  # what is left is the flag that says "your own"
    with closing(backend.open(fmt)) as engine:
        return engine.change(clip).result()


def test_a_frame_that_no_tile_of_fits_is_tried_whole(coarse, cache_folder, monkeypatch):
    monkeypatch.setattr(openvino_module, "available_bytes", lambda: 1)
    clip = make_clip(
        make_format("yuv420", 40, 32), frames=find_weights("fast", str(coarse))[1].config.frames
    )
    with closing(openvino(coarse).open(clip.format)) as engine:
        assert not [note for note in engine.open(clip.format).notes if "tiles" in note]
        engine.change(clip).result()


@pytest.mark.parametrize("config", [FAST, PAPER], ids=["fast", "paper"])
@pytest.mark.parametrize("size", [(3840, 2160), (1920, 1080)])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_tiles_fit_and_cover_the_frame_once(config, size, share):
    padded = PlaneFormat("yuv420", *size).padded(config.multiple)
    free = share_of(config, padded, share)
    tiling = plan_tiles(config, padded, 4, free)
    if tiling is None:
        assert min(size) < 4 * reach_px(config)  # nothing is left of a tile but its halo
        return
    assert working_bytes(config, tiling.tile.height, tiling.tile.width, 4) <= free
    times = np.zeros((padded.height, padded.width), np.uint8)
    for (top, left), (first, begin), (last, end) in tiling.computed():
        assert top % tiling.step == left % tiling.step == 0
        bottom, right = top + tiling.tile.height, left + tiling.tile.width
        assert bottom <= padded.height and right <= padded.width
        assert first == 0 or first >= top + tiling.halo
        assert last == padded.height or last <= bottom - tiling.halo
        assert begin == 0 or begin >= left + tiling.halo
        assert end == padded.width or end <= right - tiling.halo
        times[first:last, begin:end] += 1
    assert (times == 1).all()
    seen = np.zeros_like(times)
    for top, left in tiling.seen():
        seen[top : top + tiling.tile.height, left : left + tiling.tile.width] = 1
    assert seen.all()


def test_the_reach_is_the_networks(path):
    """A change far away changes nothing, one near enough does."""
    _, card = find_weights("fast", str(path))
    config = replace(card.config, squeeze_ratio=0)
    torch.manual_seed(0)
    from vderain.network.semi_drdnet import SemiDRDNet

    network = SemiDRDNet(config).eval()
    side = 2 * reach_px(config) + 4 * config.multiple
    rainy = torch.rand(1, config.channels, 2 * config.multiple, side)
    other = rainy.clone()
    other[..., -config.multiple :] = 0
    with torch.inference_mode():
        moved = (network.change(rainy) - network.change(other)).abs().amax((0, 1, 2))
    first = int(torch.nonzero(moved)[0])
    away = side - config.multiple - first
    assert reach_px(config) // 2 < away <= reach_px(config)


def test_clips_of_another_shape_are_refused_before_anything_is_computed(
    coarse, cache_folder, monkeypatch
):
    config = find_weights("fast", str(coarse))[1].config
    fmt = make_format("yuv420", *SIZES[1])
    free = share_of(config, fmt.padded(config.multiple), 0.9)
    monkeypatch.setattr(openvino_module, "available_bytes", lambda: free)
    engine = openvino(coarse, slots=1).open(fmt)
    from vderain.errors import EngineLoadError

    other = make_clip(make_format("gray", 8, 8), frames=config.frames)
    with pytest.raises(EngineLoadError, match="was opened for"):
        engine.change(other)
    engine.close()
    with pytest.raises(EngineLoadError, match="closed"):
        engine.change(Clip(other.planes, other.format))
