"""Chapters of Matroska that are more than one plain list are named, before a run and after it."""

import pytest

from tests.cases.clips import Part, write

_CLUSTER = bytes.fromhex("1F43B675")
_SECOND = 10**9  # in units of chapters


def element(kind, *content):
    data = b"".join(content)
    return bytes.fromhex(kind) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def number(kind, value):
    return element(kind, value.to_bytes(8, "big"))


def title(text, language=b"eng"):
    return element("80", element("85", text), element("437C", language))


def atom(uid, start_s, end_s, *more):
    times = number("91", round(start_s * _SECOND)), number("92", round(end_s * _SECOND))
    return element("B6", number("73C4", uid), *times, title(b"Part %d" % uid), *more)


def edition(*content):
    return element("45B9", *content)


FIRST, SECOND = atom(1, 0, 0.4), atom(2, 0.4, 0.8)
KINDS = {
    "nested chapters": [edition(atom(1, 0, 0.4, atom(3, 0, 0.2)), SECOND)],
    "ordered chapters": [edition(number("45DD", 1), FIRST, SECOND)],
    "2 editions": [edition(FIRST), edition(SECOND)],
    "hidden chapters": [edition(FIRST, atom(2, 0.4, 0.8, number("98", 1)))],
    "chapters in other files": [edition(atom(1, 0, 0.4, element("6E67", bytes(16))))],
    "titles in several languages": [edition(atom(1, 0, 0.4, title(b"Teil 1", b"ger")))],
}


def chaptered(user, *editions, at_end=False):
    """A file with these editions, before its frames or behind them."""
    source = write(user.folder / "in.mkv", Part(20), live="1")
    content, chapters = source.read_bytes(), element("1043A770", *editions)
    frames = content.index(_CLUSTER)
    if at_end:
        segment = content.index(bytes.fromhex("18538067")) + 12
        table = element(
            "114D9B74",
            element("4DBB", element("53AB", bytes.fromhex("1043A770")), number("53AC", 0)),
        )
        place = len(content) + len(table) - segment
        table = table[:-8] + place.to_bytes(8, "big")
        content = content[:segment] + table + content[segment:] + chapters
    else:
        content = content[:frames] + chapters + content[frames:]
    source.write_bytes(content)
    return source


@pytest.mark.parametrize("kind", KINDS)
def test_chapters_that_are_no_plain_list_are_named(user, kind):
    chaptered(user, *KINDS[kind])
    done, _ = user.run("in.mkv", "out.mkv")
    (loss,) = done.losses
    assert done.code == 3 and loss.startswith("editions of Matroska") and kind in loss
    assert loss in user.info("in.mkv")["losses"]


def test_a_plain_list_of_chapters_is_no_loss(user):
    chaptered(user, edition(number("45DD", 0), FIRST, SECOND))
    done, _ = user.run("in.mkv", "out.mkv")
    assert (done.code, done.losses) == (0, [])


def test_chapters_that_only_the_table_of_positions_names_are_found(user):
    chaptered(user, *KINDS["nested chapters"], at_end=True)
    assert "nested chapters" in user.info("in.mkv")["losses"][0]
