"""Who may see the page: tokens, names of this machine, and requests that look for more."""

import contextlib
import random
import socket
import string
from urllib.parse import quote_from_bytes

import httpx
import pytest

from tests.live.fakes import shown, until
from vderain.errors import OptionError
from vderain.live.web.access import is_loopback
from vderain.live.web.server import check_address

TOKEN = "a-long-enough-token"
ROUTES = ("/", "/app.js", "/style.css", "/api/cameras", "/api/cameras/0/pair.jpg", "/metrics")
SECRET = "geheim"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_to_the_page_and_ask_for_nothing_else(page, site):
    address, station = page()
    assert shown(station)
    for path in ROUTES[1:]:
        answer = httpx.get(address + path, headers={"sec-fetch-site": site})
        assert answer.status_code == 403, path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert httpx.get(address, headers={"sec-fetch-site": site}).status_code == 200
    for own in ("same-origin", "none"):
        answer = httpx.get(f"{address}/api/cameras", headers={"sec-fetch-site": own})
        assert answer.status_code == 200


@pytest.mark.parametrize("path", ROUTES)
def test_without_the_token_nothing_is_shown(page, path):
    address, _ = page(token=TOKEN, host="0.0.0.0")
    other = address.replace("127.0.0.1", "127.0.0.2")  # another address of this machine
    for query in ("", "?token=wrong", "?token="):
        assert httpx.get(other + path + query).status_code == 401
    wrong = {"authorization": f"Bearer {TOKEN}x", "cookie": "vderain_token=x"}
    assert httpx.get(other + path, headers=wrong).status_code == 401
    assert httpx.get(other + "/healthz").status_code == 200


def test_the_token_opens_by_header_cookie_and_once_by_address(page):
    address, _ = page(token=TOKEN)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{address}/api/cameras", headers=bearer).status_code == 200
    with httpx.Client(follow_redirects=True) as visitor:
        answer = visitor.get(f"{address}/?token={TOKEN}")
        assert answer.status_code == 200 and "token" not in str(answer.url)
        assert visitor.get(f"{address}/api/cameras").status_code == 200
    first = httpx.get(f"{address}/?token={TOKEN}")
    assert (
        "HttpOnly" in first.headers["set-cookie"]
        and "SameSite=strict" in first.headers["set-cookie"]
    )


def test_another_name_for_this_machine_is_turned_away(page):
    address, _ = page()
    assert httpx.get(address, headers={"host": "evil.example"}).status_code == 421
    assert httpx.get(address, headers={"host": "localhost:1"}).status_code == 200


def test_addresses_that_others_reach_need_a_token():
    check_address("127.0.0.1", None)
    check_address("::1", None)
    check_address("0.0.0.0", TOKEN)
    for host, token in (("0.0.0.0", None), ("192.168.1.5", ""), ("::", None), ("0.0.0.0", "short")):
        with pytest.raises(OptionError, match="token"):
            check_address(host, token)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.3.2.1", True), ("[::1]", True), ("127.0.0.1.evil.net", False),
     ("localhost.evil.net", False), ("", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_loopback_names(host, loopback):
    assert is_loopback(host) is loopback


def test_every_answer_forbids_what_the_page_does_not_need(page):
    address, _ = page()
    for path in (*ROUTES[:4], "/nothing"):
        headers = httpx.get(address + path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def hostile(dice):
    """Paths that look for files, numbers that are none, and noise."""
    files = (
        "etc/passwd",
        "pyproject.toml",
        "vderain/live/web/server.py",
        "proc/self/environ",
        "app.py",
    )
    climbs = ("../", "..%2f", "%2e%2e/", "..\\", "..%5c", "%252e%252e%252f", "....//", "/")
    numbers = (
        "-1",
        "1",
        "99999999999999999999",
        "9" * 5000,
        "0x0",
        "1e9",
        "٣",
        "NaN",
        "%00",
        "0/..",
        "..",
    )
    for _ in range(150):
        start = dice.choice(("/", "/api/", "/api/cameras/", "/app.js/", "//", "/static/", "/page/"))
        yield start + dice.choice(climbs) * dice.randrange(1, 8) + dice.choice(files)
    for number in numbers:
        for tail in ("pair.jpg", "still.png", "../pair.jpg"):
            yield f"/api/cameras/{number}/{tail}"
            yield f"/api/cameras/0/pair.jpg?after={number}&width={number}"
    for _ in range(100):
        noise = "".join(
            dice.choices(string.printable[:-5].replace(" ", ""), k=dice.randrange(1, 60))
        )
        yield "/" + noise


def raw(port, request):
    """Send bytes as they are: clients tidy paths up. Nothing where the server would not read them all."""
    data = b""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    with connection, contextlib.suppress(TimeoutError, ConnectionError):
        connection.sendall(request)
        while piece := connection.recv(65536):
            data += piece
    return data


def test_hostile_paths_and_headers_get_nothing(page, monkeypatch, caplog):
    monkeypatch.setattr("vderain.live.web.server._WAIT_S", 0.05)
    url = f"rtsp://admin:{SECRET}@127.0.0.1:9/none?token={SECRET}"
    address, station = page(source=url)
    until(lambda: station.sessions[0].connection.reason)
    port = int(address.rsplit(":", 1)[1])
    dice = random.Random(7)
    leaks = (b"root:x:", b"[project]", b"Traceback", b"site-packages", SECRET.encode(), b"PATH=")
    headers = (b"", b"X-Forwarded-For: 127.0.0.1\r\n", b"Range: bytes=0-\r\n", b"Cookie: " + b"a" * 5000 + b"\r\n",
               b"Authorization: Bearer \xff\xfe\r\n", b"X-Original-URL: /etc/passwd\r\n")  # fmt: skip
    for path in hostile(dice):
        line = path.encode("utf-8", "surrogateescape")
        method = dice.choice((b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"TRACE", b"DELETE"))
        extra = dice.choice(headers)
        answer = raw(
            port,
            method
            + b" "
            + line
            + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            + extra
            + b"\r\n",
        )
        assert not any(leak in answer for leak in leaks), (path, answer[:300])
        assert b" 500 " not in answer.split(b"\r\n", 1)[0], (path, answer[:300])
    known = httpx.get(f"{address}/api/cameras").text + httpx.get(f"{address}/metrics").text
    assert "admin" not in known and SECRET not in known and SECRET not in caplog.text
    assert httpx.get(f"{address}/healthz").status_code == 200


def wrong_tokens(dice):
    """Near misses, other alphabets, sizes, and noise; none is the token."""
    yield from (
        "",
        " ",
        "null",
        "*",
        TOKEN[:-1],
        TOKEN + "x",
        TOKEN.upper(),
        f"{TOKEN} {TOKEN}",
        TOKEN[::-1],
    )
    yield from (
        f"{TOKEN}\0",
        f"\0{TOKEN}",
        f"{TOKEN},{TOKEN}",
        f"{TOKEN}:",
        f"'{TOKEN}'",
        f"{TOKEN}\t.",
    )
    yield from (
        "ä-long-enough-token",
        "a\u2010long\u2010enough\u2010token",
        "\uff41-long-enough-token",
        "🗝" * 20,
    )
    yield from ("a" * 5000, "ü" * 3000, "a" * 100_000, "%", "%zz", "%ff%fe", "%00", "\udcff\udcfe")
    for _ in range(40):
        yield "".join(chr(dice.choice((dice.randrange(33, 127), dice.randrange(128, 0x2FFF))))
                      for _ in range(dice.randrange(1, 40)))  # fmt: skip


def asked(port, target, *lines):
    """The answer's first line and all of it."""
    head = [b"GET " + target + b" HTTP/1.1", b"Host: gate.example", b"Connection: close", *lines]
    answer = raw(port, b"\r\n".join(head) + b"\r\n\r\n")
    return answer.split(b"\r\n", 1)[0], answer


def test_no_wrong_token_opens_anything(page):
    address, _ = page(token=TOKEN)
    port = int(address.rsplit(":", 1)[1])
    for number, wrong in enumerate(wrong_tokens(random.Random(11))):
        data = wrong.encode("utf-8", "surrogateescape")
        quoted = quote_from_bytes(data).encode()
        # Bytes that end a header's line would be another header.
        line = data.replace(b"\r", b"").replace(b"\n", b"")
        for target, *lines in (
            (b"/?token=" + quoted,),
            (b"/?token=" + quoted + b"&token=" + quoted + b"&token",),
            (b"/metrics", b"Authorization: Bearer " + line),
            (b"/metrics", b"Authorization: " + line, b"Authorization: Basic " + line),
            (b"/api/cameras", b"Cookie: vderain_token=" + line),
            (b"/api/cameras", b"Cookie: vderain_token=" + line + b"; vderain_token=; =; ;;"),
        ):
            first, answer = asked(port, target, *lines)
            assert first.split()[1:2] in ([b"401"], [b"400"], [b"431"], []), (
                number,
                target[:60],
                first,
            )
            assert b"set-cookie" not in answer.lower() and b"Traceback" not in answer
    right = TOKEN.encode()
    for target, *lines in (
        (b"/metrics?token=" + right,),  # the address opens the page only, and nothing else keeps it
        (b"//?token=" + right,),
        (b"/?Token=" + right,),
        (b"/?x=1;token=" + right,),
        (b"/metrics", b"Authorization: Basic " + right),
        (b"/metrics", b"Authorization: Bearer"),
        (b"/metrics", b"X-Authorization: Bearer " + right),
        (b"/metrics", b"Cookie: token=" + right),
        (b"/metrics", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: AAAA"),
    ):
        assert asked(port, target, *lines)[0].split()[1] == b"401", (target, lines)
    assert httpx.get(f"{address}/metrics", headers={"authorization": f"bearer  {TOKEN}"}).is_success


def test_a_token_of_any_punctuation_opens_by_header_cookie_and_address(page):
    token = string.punctuation + "1"
    address, _ = page(token=token)
    with httpx.Client(follow_redirects=True) as visitor:
        assert visitor.get(f"{address}/", params={"token": token}).is_success
        assert visitor.get(f"{address}/metrics").is_success
    assert httpx.get(f"{address}/metrics", headers={"authorization": f"Bearer {token}"}).is_success


@pytest.mark.parametrize(
    "token",
    ["пароль-пароль-пароль", "a token with spaces", "long-enough-\udcff", "a-tab\tin-token"],
)
def test_a_token_that_no_header_carries_is_refused_at_the_start(token):
    with pytest.raises(OptionError, match="token"):
        check_address("127.0.0.1", token)
