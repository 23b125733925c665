"""Weights with graphs next to them: what they answer, and that they do it without torch."""

import lzma
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from tests.engines.conftest import write_weights
from tests.engines.test_contract import agreement_db, expected_change, make_clip, make_format
from tests.networks import MEDIAN, TEMPORAL, TINY, TINY_NLCL, randomized
from vderain.engines.backends.openvino import OpenVinoBackend
from vderain.engines.graphs import export
from vderain.engines.graphs.archive import graph_path, graphs_state, read_graphs, write_graphs
from vderain.engines.graphs.reference import CHECKED_PX
from vderain.engines.graphs.runtime import import_openvino
from vderain.engines.graphs.traced import change_model
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError, WeightsError
from vderain.network.card import Card
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.options import EngineOptions
from vderain.weights import find_weights

FORMATS = [
    *(("yuv420", 8), ("yuv420", 10), ("yuv422", 10), ("yuv440", 8)),
    *(("yuv444", 12), ("gray", 8), ("rgb", 8), ("rgb", 16)),
]
CONFIGS = {"gates": TEMPORAL, "median": MEDIAN, "nlcl": TINY_NLCL}


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture(scope="module", autouse=True)
def _one_packed_graph():
    """Of the graphs for 4:2:0 only that of BT.709: tracing them takes most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "own_formats", lambda: [make_format("yuv420", 64, 64)])
        yield


@pytest.fixture(scope="module")
def exported(config, tmp_path_factory):
    """Weights with their graphs."""
    path = write_weights(tmp_path_factory.mktemp("exported") / "mine.safetensors", config)
    export.export_graphs(path)
    return path


@pytest.fixture
def mine(exported, tmp_path):
    """The same, to be spoiled by the test."""
    for file in exported.parent.glob("mine.*"):
        shutil.copy(file, tmp_path)
    return tmp_path / "mine.safetensors"


@pytest.fixture
def no_torch(monkeypatch):
    """Torch cannot be imported by what is not loaded yet."""
    for name in ("vderain.engines.graphs.traced", "vderain.engines.backends.reference"):
        monkeypatch.setitem(sys.modules, name, None)


def backend(path, tmp_path):
    return OpenVinoBackend(
        *find_weights("fast", str(path)), EngineOptions(), EngineCache(tmp_path / "cache")
    )


@pytest.mark.parametrize(("layout", "bit_depth"), FORMATS)
def test_graphs_answer_as_the_network_does_in_every_format(
    exported, config, tmp_path, no_torch, layout, bit_depth
):
    clip = make_clip(make_format(layout, 45, 37, bit_depth), frames=config.seen_frames)
    engine = backend(exported, tmp_path).open(clip.format)
    change, spec = engine.change(clip).result(), engine.open(clip.format)
    engine.close()
    assert agreement_db(change, expected_change(exported, clip), clip.format) > 70
    assert spec.notes == ()
    assert (spec.frames, spec.ranks) == (config.frames, config.ranks)


@pytest.mark.parametrize("config", ["median"], indirect=True)
class TestOneNetwork:
    def test_the_self_check_fails_where_openvino_answers_otherwise(self, mine, tmp_path):
        card = Card.load(mine)
        file = read_graphs(mine)
        wrong = {name: answer + np.float16(0.1) for name, answer in file.predictions.items()}
        write_graphs(mine, card, replace(file, predictions=wrong))
        with pytest.raises(EngineBuildError, match="otherwise than the network did"):
            backend(mine, tmp_path).open(make_format("yuv420", 44, 36))

    def test_the_graph_that_runs_is_checked_and_not_its_reference_alone(self, mine, tmp_path):
        card, file = Card.load(mine), read_graphs(mine)
        other = write_weights(tmp_path / "other.safetensors", card.config, spoil=brightened)
        export.export_graphs(other)
        own = {name: g for name, g in read_graphs(other).graphs.items() if "yuv420" in name}
        write_graphs(mine, card, replace(file, graphs={**file.graphs, **own}))
        with pytest.raises(EngineBuildError, match="fails the self-check"):
            backend(mine, tmp_path).open(make_format("yuv420", 44, 36))

    def test_the_model_of_the_run_is_compiled_while_a_small_one_is_checked(
        self, mine, tmp_path, monkeypatch
    ):
        compiled, sizes, begun = OpenVinoBackend._compiled, [], threading.Event()

        def watched(self, fmt, *rest):
            sizes.append((fmt.width, fmt.height))
            if sizes[-1] == (44, 36):
                begun.set()
            assert begun.wait(20)
            return compiled(self, fmt, *rest)

        monkeypatch.setattr(OpenVinoBackend, "_compiled", watched)
        backend(mine, tmp_path).open(make_format("yuv420", 44, 36)).close()
        assert sorted(sizes) == [(44, 36), CHECKED_PX]

    def test_graphs_of_other_weights_are_not_used(self, mine, tmp_path, no_torch):
        write_weights(mine, seed=1)
        with pytest.raises(EngineBuildError, match=r"mine\.openvino was made of other weights"):
            backend(mine, tmp_path).open(make_format("yuv420", 44, 36))

    def test_without_graphs_and_torch_the_error_says_what_to_do(self, mine, tmp_path, no_torch):
        graph_path(mine).unlink()
        with pytest.raises(EngineBuildError) as raised:
            backend(mine, tmp_path).open(make_format("yuv420", 44, 36))
        for words in ("mine.openvino is missing", "vderain[train]", "vderain export --graphs"):
            assert words in str(raised.value)

    @pytest.mark.parametrize("data", [b"", b"no archive", lzma.compress(b"no tar")])
    def test_damaged_graphs_are_named(self, mine, tmp_path, no_torch, data):
        graph_path(mine).write_bytes(data)
        with pytest.raises(EngineBuildError, match=r"mine\.openvino is damaged"):
            backend(mine, tmp_path).open(make_format("yuv420", 44, 36))

    def test_graphs_that_end_early_are_named(self, mine, tmp_path):
        data = graph_path(mine).read_bytes()
        graph_path(mine).write_bytes(data[: -len(data) // 2])
        with pytest.raises(WeightsError, match=r"mine\.openvino: damaged"):
            read_graphs(mine)

    def test_other_graphs_of_the_same_weights_are_another_engine(self, mine, tmp_path):
        fmt = make_format("yuv420", 44, 36)
        backend(mine, tmp_path).open(fmt).close()
        write_graphs(
            mine, Card.load(mine), replace(read_graphs(mine), graphs=read_graphs(mine).graphs)
        )
        backend(mine, tmp_path).open(fmt).close()
        assert len(list((tmp_path / "cache").glob("*.bin"))) == 1
        graph_path(mine).unlink()  # torch makes the next one
        backend(mine, tmp_path).open(fmt).close()
        assert len(list((tmp_path / "cache").glob("*.bin"))) == 2

    def test_a_process_without_torch_derains(self, mine, tmp_path):
        code = f"""
import sys
import threading
sys.modules["torch"] = sys.modules["safetensors"] = None
import numpy as np
import vderain
options = vderain.EngineOptions(weights={str(mine)!r})
with vderain.Derainer(options) as derainer:
    dry = derainer(np.full((20, 30, 3), 90, np.uint8))
    print(dry.shape, derainer.spec_for(dry).name)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "(20, 30, 3) openvino\n", done.stderr


def test_a_network_is_traced_once(monkeypatch):
    traced, change = [], SemiDRDNet.change
    monkeypatch.setattr(
        SemiDRDNet, "change", lambda self, rainy: traced.append(rainy) or change(self, rainy)
    )
    change_model(import_openvino(), randomized(SemiDRDNet(TINY)))
    assert len(traced) == 1


def brightened(network):
    network.detail.tail.bias.add_(0.5)


def test_the_shipped_graphs_are_of_the_shipped_weights():
    weights, card = find_weights("fast")
    digest, reason = graphs_state(weights, card)
    assert digest, f"{reason}; make graphs"
    names = read_graphs(weights).graphs
    assert {"rgb", "yuv420-8-bt709-limited", "yuv420-8-bt601-full"} <= set(names)
    assert ("int8-rgb" in names) == bool(card.int8)
