"""Images that stay on the GPU, with the CPU in its place: what the network takes, adds and hands on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engines.conftest import write_weights
from tests.engines.host_device import HostDevice
from tests.engines.test_contract import make_clip, make_format
from tests.networks import TINY
from vderain.engines.backends.cuda import CudaBackend
from vderain.engines.backends.surfaces import planes_of, surface_of
from vderain.engines.store.cache import EngineCache
from vderain.frames import Clip, DevicePlanes, PlaneFormat
from vderain.network.change.apply import apply_change
from vderain.network.change.tensors import add_change
from vderain.options import EngineOptions
from vderain.weights import find_weights

HOST = torch.device("cpu")


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.35])
@pytest.mark.parametrize("bit_depth", [8, 10, 12, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_adding_on_a_device_gives_the_hosts_samples(bit_depth, full_range, strength, dtype):
    fmt = PlaneFormat("yuv420", 64, 48, bit_depth, full_range=full_range)
    rng = np.random.default_rng(bit_depth)
    planes = tuple(
        rng.integers(0, fmt.peak + 1, shape).astype(fmt.dtype) for shape in fmt.plane_shapes
    )
    # Halves are rounded to even; large ones saturate.
    change = tuple(
        torch.from_numpy(rng.normal(0, fmt.peak / 4, shape)).mul(2).round().div(2).to(dtype)
        for shape in fmt.plane_shapes
    )
    host = tuple(delta.float().clamp(-60000, 60000).numpy() for delta in change)
    expected = apply_change(planes, host, fmt, strength=strength)
    tensors = [torch.from_numpy(plane.astype(np.int32)) for plane in planes]
    on_device = [delta.clamp(-60000, 60000) for delta in change]
    results = add_change(tensors, on_device, fmt, torch.tensor(strength))
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got.numpy(), want.astype(np.float32))


def on_device(clip, downloads):
    """A clip whose images lie on the stand-in."""

    def placed(planes):
        def download():
            downloads.append(planes)
            return planes

        tensors = [torch.from_numpy(plane.astype(np.int32)) for plane in planes]
        image = surface_of(tensors, clip.format, HOST)
        image._download = download
        return image

    return replace(clip, planes=placed(clip.planes))


@pytest.mark.parametrize("width", [20, 22, 854])
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_a_frames_layout_there_and_back(bit_depth, width):
    fmt = make_format("yuv420", width, 18, bit_depth)
    planes = make_clip(fmt).planes
    image = on_device(make_clip(fmt), []).planes
    assert (image.luma.shape, image.chroma.shape) == ((18, width), (9, width // 2, 2))
    assert image.luma.dtype == (torch.uint8 if bit_depth == 8 else torch.uint16)
    # NVENC looks for chroma right behind the luma, in rows as long, of whole words of four bytes.
    row, step = image.luma.stride()
    bytes_per_row = row * image.luma.element_size()
    assert step == 1 and image.chroma.stride() == (row, 2, 1) and bytes_per_row % 4 == 0
    assert image.chroma.data_ptr() == image.luma.data_ptr() + 18 * bytes_per_row
    again = surface_of(planes_of(image), fmt, HOST)
    assert len(again) == len(planes) == 3
    for got, want in zip(again, planes, strict=True):
        assert got.dtype == fmt.dtype
        np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module", params=[1, 3], ids=["one frame", "three frames"])
def frames_and_path(request, tmp_path_factory):
    config = replace(TINY, frames=request.param)
    return request.param, write_weights(tmp_path_factory.mktemp("w") / "w.safetensors", config)


@pytest.fixture
def engine_of(cache_folder):
    opened = []

    def make(path, fmt, device):
        found = find_weights("fast", str(path))
        opened.append(CudaBackend(*found, EngineOptions(), EngineCache(), device=device).open(fmt))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_frame_on_the_device_stays_there(frames_and_path, engine_of, bit_depth):
    frames, path = frames_and_path
    clip = make_clip(make_format("yuv420", 38, 22, bit_depth), frames=frames)
    device, downloads = HostDevice(), []
    engine = engine_of(path, clip.format, device)
    expected = engine.submit(clip, strength=0.8).result()
    placed = on_device(clip, downloads)
    change = engine.change(placed).result()
    for got, want in zip(change, engine.change(clip).result(), strict=True):
        np.testing.assert_array_equal(got, want)
    dry = engine.submit(placed, strength=0.8, on_device=True).result()
    assert downloads == []
    assert isinstance(dry, DevicePlanes) and dry.device == (1, 0) and dry.format == clip.format
    for got, want in zip(dry, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert device.followed  # what NVDEC has queued comes first


def test_images_handed_on_have_memory_of_their_own(frames_and_path, engine_of):
    """And memory that lasts: an encoder knows it by its address."""
    frames, path = frames_and_path
    fmt, device = make_format("yuv420", 20, 18), HostDevice()
    clips = [make_clip(fmt, seed, frames) for seed in range(6)]
    engine = engine_of(path, fmt, device)
    expected = [engine.submit(clip).result() for clip in clips]
    kept = [engine.submit(on_device(clip, []), on_device=True) for clip in clips]
    images = [pending.result() for pending in kept]
    assert device.surfaces == len(images)
    for image, planes in zip(images, expected, strict=True):
        for got, want in zip(image, planes, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("wanted", [True, False])
def test_where_the_next_station_or_the_image_is_on_the_host_planes_come_down(
    frames_and_path, engine_of, wanted
):
    frames, path = frames_and_path
    clip = make_clip(make_format("yuv420", 20, 18), frames=frames)
    engine = engine_of(path, clip.format, HostDevice())
    expected = engine.submit(clip).result()
    given = clip if wanted else on_device(clip, [])  # and the encoder takes no other
    dry = engine.submit(given, on_device=wanted).result()
    assert not isinstance(dry, DevicePlanes)
    for got, want in zip(dry, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_frame_on_another_gpu_comes_by_the_host(frames_and_path, engine_of):
    frames, path = frames_and_path
    clip, downloads = make_clip(make_format("yuv420", 20, 18), frames=frames), []
    engine = engine_of(path, clip.format, HostDevice())
    placed = on_device(clip, downloads)
    placed.planes.device = (2, 1)
    dry = engine.submit(placed, on_device=True).result()
    assert len(downloads) == 1 and not isinstance(dry, DevicePlanes)
    for got, want in zip(dry, engine.submit(clip).result(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_does_not_know_of_devices_reads_planes(frames_and_path):
    clip, downloads = make_clip(make_format("yuv420", 20, 18)), []
    image = on_device(clip, downloads).planes
    assert len(image) == 3 and downloads == []
    assert image[0].shape == (18, 20) and len([*image]) == 3
    assert len(downloads) == 1  # once
    assert Clip(image, clip.format).planes is image


@pytest.mark.parametrize(("layout", "size"), [("yuv444", (20, 18)), ("yuv420", (21, 18))])
def test_other_layouts_and_odd_sizes_do_not_lie_on_a_device(layout, size):
    with pytest.raises(ValueError, match=r"4:2:0 of an even size"):
        DevicePlanes(make_format(layout, *size), None, None, (2, 0), tuple)
