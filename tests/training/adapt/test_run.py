import numpy as np
import pytest
import torch

from tests.networks import TINY_NLCL
from tests.training.folders import noise, save
from tests.training.rainy_clips import pan, save_unchanging, scene, with_rain, write_frames
from vderain.errors import OptionError, SourceError
from vderain.metrics import mean_psnr, psnr
from vderain.network.build import build_network
from vderain.network.card import Card
from vderain.network.nlcl import begin_near_identity
from vderain.training.adapt import run
from vderain.training.adapt.page import write_page
from vderain.training.adapt.run import Adaptation, ValidationScores
from vderain.training.config.adapt import adapt_config
from vderain.training.evaluation.predict import derain_stack
from vderain.weights import find_weights, load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("rain") / "clip", with_rain([scene()] * 40))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_unchanging(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def unpolished(tmp_path_factory):
    """Weights that draw images only roughly, so that they soon learn something."""
    torch.manual_seed(0)
    network = build_network(TINY_NLCL).eval()
    begin_near_identity(network)
    path = tmp_path_factory.mktemp("nlcl") / "nlcl.safetensors"
    save_network(network, path, Card("nlcl", TINY_NLCL, sha256=""))
    return path


def adaptation(run, clip, weights, *settings, dry=(), replay=(), on_note=lambda note: None):
    small = [
        "patch=32",
        "batch=4",
        "windows=4",
        "steps=6",
        "checkpoint_every=2",
        "learning_rate=2e-3",
    ]
    config = adapt_config(
        "tiny", str(weights), {"footage": [clip], "dry": dry, "replay": replay}, [*small, *settings]
    )
    return Adaptation(config, run, on_note)


def trained(one):
    evaluations = []
    one.train(lambda progress: None, evaluations.append)
    return evaluations


@pytest.mark.slow
def test_weights_that_gain_on_validation_frames_are_written_with_a_card_that_says_so(
    tmp_path, clip, unpolished
):
    settings = ("steps=120", "checkpoint_every=40", "learning_rate=1e-3", "kept_share=0.0")
    one = adaptation(tmp_path / "run", clip, unpolished, *settings, "median_share=0.5")
    evaluations = trained(one)
    assert [evaluation.step for evaluation in evaluations] == [0, 40, 80, 120]
    verdict = one.judge()
    assert verdict.adapted and "dB nearer" in verdict.reason, evaluations
    assert "on other rain they" in verdict.reason
    assert verdict.changed.agreement_db > verdict.original.agreement_db
    assert verdict.best.dry_db >= 40
    out = tmp_path / "mine.safetensors"
    one.write(out, verdict)
    path, card = find_weights("tiny", str(out))
    assert (
        card.training["adapted"]
        and card.training["from"] == find_weights("", str(unpolished))[1].sha256
    )
    before, after = (load_network(*find_weights("", str(file))) for file in (unpolished, path))
    assert not all(map(torch.equal, before.state_dict().values(), after.state_dict().values()))


@pytest.mark.slow
def test_weights_that_do_not_gain_are_not_written_but_the_original_ones(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights, "learning_rate=0.0", "steps=4")
    trained(one)
    verdict = one.judge()
    assert not verdict.adapted and "the original weights are kept" in verdict.reason
    out = tmp_path / "mine.safetensors"
    one.write(out, verdict)
    before, after = (load_network(*find_weights("", str(file))) for file in (weights, out))
    for name, value in before.state_dict().items():
        assert torch.allclose(value, after.state_dict()[name], atol=1e-3), name


def test_a_gain_that_harms_dry_images_does_not_count(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights)
    one.evaluations = [
        ValidationScores(0, 30.0, 60.0, 25.0),
        ValidationScores(2, 35.0, 39.0, 25.0),
        ValidationScores(4, 31.0, 41.0, 25.0),
    ]
    assert one.best_evaluation.step == 4
    one.evaluations.pop()
    assert one.best_evaluation.step == 0
    assert "came with changes to dry images" in one.judge().reason


def test_a_gain_that_forgets_other_rain_does_not_count(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights)
    one.evaluations = [
        ValidationScores(0, 30.0, 60.0, 25.0),
        ValidationScores(2, 35.0, 60.0, 24.7),
        ValidationScores(4, 31.0, 60.0, 24.9),
    ]
    assert one.best_evaluation.step == 4
    one.evaluations.pop()
    assert one.best_evaluation.step == 0
    assert "came with a loss of 0.30 dB on other rain" in one.judge().reason


@pytest.mark.slow
def test_predictions_for_other_rain_stay_near_those_of_the_original_weights(
    tmp_path, clip, unpolished
):
    settings = ("steps=20", "checkpoint_every=20", "learning_rate=1e-3", "batch=8")
    nearness = []
    for kept in (0, 20):
        one = adaptation(tmp_path / f"{kept}", clip, unpolished, *settings, f"kept_weight={kept}.0")
        trained(one)
        pairs = [
            [
                derain_stack(network.eval(), rainy)
                for network in (one.original, one.trainer.averaged)
            ]
            for rainy, _ in one._probes
        ]
        nearness.append(mean_psnr(psnr(before, after) for before, after in pairs))
    assert nearness[1] > nearness[0] + 2


@pytest.mark.slow
def test_it_stops_when_the_validation_part_gains_no_more(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights, "learning_rate=0.0", "steps=40", "patience=2")
    assert [evaluation.step for evaluation in trained(one)] == [0, 2, 4]


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path, clip, weights):
    def until(step):
        def on_step(progress):
            if progress.step == step:
                raise KeyboardInterrupt

        return on_step

    whole = adaptation(tmp_path / "whole", clip, weights)
    trained(whole)
    cut = adaptation(tmp_path / "cut", clip, weights)
    with pytest.raises(KeyboardInterrupt):
        cut.train(until(3), lambda evaluation: None)
    again = adaptation(tmp_path / "cut", clip, weights)
    evaluations = trained(again)
    assert [evaluation.step for evaluation in evaluations] == [4, 6]
    assert again.evaluations == whole.evaluations
    for one, other in zip(
        whole.trainer.averaged.state_dict().values(),
        again.trainer.averaged.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_other_footage_in_the_same_run_is_refused(tmp_path, clip, weights):
    trained(adaptation(tmp_path / "run", clip, weights, "steps=2"))
    other = write_frames(tmp_path / "other", with_rain([scene(5)] * 30))
    with pytest.raises(OptionError, match=r"another configuration \(footage"):
        trained(adaptation(tmp_path / "run", other, weights))


@pytest.mark.slow
def test_dry_footage_of_the_camera_and_other_images_take_part(tmp_path, clip, weights):
    save(tmp_path / "dry" / "a.png", scene(2))
    save(tmp_path / "any" / "b.png", noise(1, 96, 96))
    one = adaptation(
        tmp_path / "run",
        clip,
        weights,
        "steps=2",
        dry=[tmp_path / "dry"],
        replay=[tmp_path / "any"],
    )
    assert len(trained(one)) == 2


@pytest.mark.parametrize(
    "frames", [[scene()] * 15 + [scene() + 1] * 15, pan(30)], ids=["still", "moving"]
)
def test_footage_without_rain_is_refused(tmp_path, weights, frames):
    dry = write_frames(tmp_path / "dry", frames)
    with pytest.raises(SourceError, match=r"no rain is seen|still image"):
        adaptation(tmp_path / "run", dry, weights)
    assert not (tmp_path / "run").exists()


def test_dry_footage_that_rains_is_refused(tmp_path, clip, weights):
    with pytest.raises(SourceError, match=r"clip: shows rain; dry footage must show none"):
        adaptation(tmp_path / "run", clip, weights, dry=[clip])


def test_dry_footage_that_cannot_be_checked_for_rain_is_named(tmp_path, clip, weights):
    short = write_frames(tmp_path / "short", with_rain([scene()] * 13))
    notes = []
    adaptation(tmp_path / "run", clip, weights, dry=[short], on_note=notes.append)
    assert any("short: whether it rains there cannot be seen" in note for note in notes)


@pytest.mark.slow
def test_a_gain_too_small_to_mean_anything_keeps_the_original_weights(
    tmp_path, clip, unpolished, monkeypatch
):
    settings = ("steps=40", "checkpoint_every=20", "learning_rate=1e-3", "kept_share=0.0")
    one = adaptation(tmp_path / "run", clip, unpolished, *settings, "median_share=0.5")
    trained(one)
    monkeypatch.setattr(run, "_WORTH_DB", 0.0)
    assert one.judge().adapted
    monkeypatch.setattr(run, "_WORTH_DB", 60.0)
    verdict = one.judge()
    assert not verdict.adapted and "validation frames come nearer" in verdict.reason


def test_the_minutes_of_a_stopped_run_count(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights, "steps=20", "minutes=1", "patience=50")
    one.trainer.seconds = 61.0
    trained(one)
    assert one.trainer.step == 2  # the first evaluation


@pytest.mark.slow
def test_nlcl_weights_keep_their_statistics(tmp_path, clip, unpolished):
    one = adaptation(tmp_path / "run", clip, unpolished, "steps=2")
    trained(one)
    state = one.trainer.network.state_dict()
    gathered = [value for name, value in state.items() if name.endswith("running_mean")]
    assert gathered and not any(value.any() for value in gathered)


@pytest.mark.slow
def test_the_contrast_is_an_option(tmp_path, clip, weights):
    settings = ("rain_contrast=0.1", "background_contrast=0.1", "patch=64", "batch=8", "steps=2")
    settings += ("kept_share=0.2", "mined_share=0.3")
    one = adaptation(tmp_path / "run", clip, weights, *settings)
    trained(one)
    log = (tmp_path / "run" / "log.csv").read_text()
    assert "background" in log and "rain" in log
    assert np.isfinite(one.evaluations[-1].agreement_db)


@pytest.mark.slow
def test_the_page_shows_images_curves_and_the_verdict(tmp_path, clip, weights):
    one = adaptation(tmp_path / "run", clip, weights, "steps=2")
    one.train(lambda progress: None, lambda evaluation: None)
    running = write_page(one).read_text()
    assert "refresh" in running and "adapted weights" in running
    page = write_page(one, one.judge()).read_text()
    assert "refresh" not in page and "polyline" in page and "residual rain" in page
    assert "Other rain" in page and "What it costs elsewhere" in page
    images = list((tmp_path / "run" / "images").iterdir())
    assert images and all(f"images/{one.name}" in page for one in images)


@pytest.mark.parametrize("setting", ["compiled=true", "workers=2", "cache_mb=9", "network={a=1}"])
def test_settings_that_an_adaptation_would_ignore_are_refused(weights, setting):
    with pytest.raises(OptionError, match=r"adapting does not use it"):
        adapt_config("tiny", str(weights), {}, [setting])


def test_a_contrast_of_weights_without_a_rain_branch_is_refused(unpolished):
    with pytest.raises(OptionError, match=r"need weights of Semi-DRDNet"):
        adapt_config("nlcl", str(unpolished), {}, ["rain_contrast=0.1"])
