"""Links in the target: nothing is written through one that leads out of it."""

import pytest

from vderain.batch.planning import open_manifest
from vderain.batch.report.record import IMAGES_FOLDER, write_report
from vderain.errors import SinkError


def test_a_clip_is_not_written_through_a_link_out_of_the_target(rig):
    rig.clip("day/a.mp4", frames=12)
    rig.clip("b.mp4", frames=12)
    elsewhere = rig.folder / "elsewhere"
    elsewhere.mkdir()
    rig.target.mkdir()
    (rig.target / "day").symlink_to(elsewhere, target_is_directory=True)
    tally = rig.run()
    assert (len(tally.done), len(tally.failed)) == (1, 1)
    said = [text for name, text in rig.events if name == "a.mp4" and "failed" in text]
    assert said and all(f"leads out of the target, to {elsewhere}" in text for text in said)
    assert list(elsewhere.iterdir()) == [] and (rig.target / "b.mp4").exists()


def test_a_link_that_appears_while_a_clip_is_in_work_is_not_followed(rig):
    rig.clip("day/a.mp4", frames=12)
    elsewhere = rig.folder / "elsewhere"
    elsewhere.mkdir()
    submit = rig.engine.submit

    def appears(*args, **kwargs):
        if not (rig.target / "day").exists():
            (rig.target / "day").symlink_to(elsewhere, target_is_directory=True)
        return submit(*args, **kwargs)

    rig.engine.submit = appears
    assert len(rig.run().failed) == 1 and list(elsewhere.iterdir()) == []


def test_links_inside_the_target_and_to_the_target_are_followed(rig):
    rig.clip("day/a.mp4", frames=12)
    place = rig.folder / "disk"
    (place / "monday").mkdir(parents=True)
    rig.target.symlink_to(place, target_is_directory=True)
    (place / "day").symlink_to(place / "monday", target_is_directory=True)
    assert len(rig.run().done) == 1 and (place / "monday" / "a.mp4").exists()


@pytest.mark.parametrize("name", ["", "segments", "clips", "manifest.sqlite"])
def test_the_work_folder_lies_in_the_target(rig, name):
    elsewhere = rig.folder / "elsewhere"
    elsewhere.mkdir()
    link = rig.target / ".vderain-batch" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere / "x" if name else elsewhere)
    with pytest.raises(SinkError, match="leads out of the target"), open_manifest(rig.target):
        pass
    assert list(elsewhere.iterdir()) == []


def test_images_of_the_report_lie_in_its_folder(rig):
    elsewhere = rig.folder / "elsewhere"
    elsewhere.mkdir()
    rig.target.mkdir()
    (rig.target / IMAGES_FOLDER).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(SinkError, match="leads out"):
        write_report(rig.target, rig.target, [], seconds=1.0)
