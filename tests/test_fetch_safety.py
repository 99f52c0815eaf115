"""No link, name or redirect leads the fetcher into somebody's network."""

from __future__ import annotations

import socket
import string
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from local_server import FINE, LocalServer, Reply, Script, causes, pages_of

from gpt2.corpus.fetch import FetchConfig, fetch, read_outcomes
from gpt2.corpus.fetch.addresses import PRIVATE, is_public
from gpt2.errors import FetchError

# Redirects


def test_redirects_are_followed_to_where_they_lead(tmp_path: Path) -> None:
    def to(where: str) -> Reply:
        return Reply("elsewhere", 302, {"Location": where})

    pages: dict[str, Script] = {
        "/relative": to("fine"),
        "/absolute": to("/relative"),
        "/loop": to("/loop"),
        "/file": to("file:///etc/passwd"),
        "/script": to("javascript:alert(1)"),
        "/broken": to("http://[::1"),
        "/nowhere": Reply("<p>moved, but where?</p>", 302),
    }
    with LocalServer(dict(pages)) as server:
        found = dict(zip(pages, causes(server, tmp_path, *pages), strict=True))
        kept = pages_of(tmp_path)
        assert kept[server.url("/absolute")].text == "<p>This one is fine.</p>"
        assert server.asked()["/loop"] == 1
    nowhere = "redirect to no address of the web"
    assert found == {
        "/relative": None,
        "/absolute": None,
        "/loop": "redirects in a circle",
        "/file": nowhere,
        "/script": nowhere,
        "/broken": nowhere,
        "/nowhere": "status 302",
    }


def test_a_redirect_into_the_network_is_refused(tmp_path: Path) -> None:
    with LocalServer({"/secret": Reply("<p>secret</p>")}) as other, LocalServer() as server:
        inside = [other.url("/secret"), "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/"]
        inside += [f"http://localhost:{other.address[10:]}/secret", "http://[::ffff:10.0.0.1]/"]
        for i, target in enumerate(inside):
            server.pages[f"/{i}"] = Reply(status=301, headers={"Location": target})
        found = causes(server, tmp_path, *(f"/{i}" for i in range(len(inside))))
        assert found == [PRIVATE] * len(inside)
        assert other.requests == []


# Addresses inside somebody's network


@pytest.mark.parametrize(
    "host",
    [
        *[
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "0.0.0.0",
        ],
        *["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "①②⑦.0.0.1", "user@127.0.0.1"],
    ],
)
def test_no_spelling_of_loopback_gets_past(host: str, tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server:
        port = server.address.partition(":")[2]
        with pytest.raises(FetchError, match=r"not an address of the public internet|no answer: "):
            fetch([f"http://{host}:{port}/fine"], tmp_path, FetchConfig(delay=0, retries=0, timeout=5))
        assert server.requests == []


def test_a_name_that_leads_into_the_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **settings: Any) -> Any:
        return real("127.0.0.1" if host == "innocent.example" else host, *args, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with LocalServer(dict(FINE)) as server:
        port = server.address.partition(":")[2]
        with pytest.raises(FetchError, match=PRIVATE):
            fetch([f"http://innocent.example:{port}/fine"], tmp_path, FetchConfig(delay=0, retries=0))
        assert server.requests == []


def test_an_allowed_address_may_have_another_name_but_no_other_port(tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server, LocalServer(dict(FINE)) as other:
        port = server.address.partition(":")[2]
        named = f"http://localhost:{port}/fine"
        assert causes(server, tmp_path, named, other.url("/fine")) == [None, PRIVATE]
        assert other.requests == []


class Canary:
    """Listens on a port of 127.0.0.1 and ::1, and counts every connection, whatever is said on it."""

    def __init__(self) -> None:
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self.sockets[0].getsockname()[1]
        with suppress(OSError):
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))

    @property
    def touched(self) -> bool:
        """Whether anybody connected."""
        for listening in self.sockets:
            listening.setblocking(False)
            with suppress(BlockingIOError):
                listening.accept()[0].close()
                return True
        return False

    def close(self) -> None:
        """Stop listening."""
        for listening in self.sockets:
            listening.close()


NAMES = {
    "innocent.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "mixed.example": ["93.184.216.34", "127.0.0.1"],
    "nothing.example": ["0.0.0.0"],
    "metadata.google.internal": ["169.254.169.254"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "localhost": ["127.0.0.1", "::1"],
    "localhost.": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1"],
    "ip6-localhost": ["::1"],
}
HOSTS = [
    *["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1"],
    *[
        "017700000001",
        "0000000177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "127.255.255.254",
        "0x7F.0x0.0x0.0x1",
    ],
    *["[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"],
    *["[0:0:0:0:0:ffff:7f00:0001]", "[::ffff:0:127.0.0.1]", "[2002:7f00:1::]", "[2002:7f00:1::1]"],
    *["[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[fe80::1]", "[fe80::1%25lo]"],
    *["[fc00::1]", "[2001:0:7f00:1::80ff:fffe]", "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1"],
    *["ｌocalhost", "LOCALHOST", "user@127.0.0.1", "example.org@127.0.0.1", "user:pass@127.0.0.1"],
    *["example.org:80@127.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00.example.org", "127.0.0.1%2eexample.org"],
    *[
        "127.0.0.1\t",
        "127.0.\n0.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.168.0.1",
        "10.0.0.1",
        "172.31.0.1",
    ],
    *NAMES,
    *["rebinding.example", "slow-rebinding.example"],
]
LINKS = [
    *[f"http://{host}:PORT/secret" for host in HOSTS],
    *["https://127.0.0.1:PORT/secret", "http://127.0.0.1:PORT#@example.org/", "http:127.0.0.1:PORT/secret"],
    *[
        "http://example.org\\@127.0.0.1:PORT/",
        "http://127.0.0.1:PORT\\@example.org/",
        "http:///127.0.0.1:PORT/",
    ],
    *[
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/_x",
        "ftp://127.0.0.1:PORT/",
        "dict://127.0.0.1:PORT/d:x",
    ],
    *[
        "ws://127.0.0.1:PORT/",
        "data:text/html,<p>x",
        "//127.0.0.1:PORT/secret",
        "jar:http://127.0.0.1:PORT/!/",
    ],
    *[
        "http://127.0.0.1:PORT/%0d%0aHost:%20x/",
        "view-source:http://127.0.0.1:PORT/",
        "HTTP://127.0.0.1:PORT/",
    ],
]


def a_world_of_its_own(monkeypatch: pytest.MonkeyPatch, port: int) -> Counter[str]:
    """Names of this test alone, two of which change their answer; and a public internet where nobody answers."""
    asked: Counter[str] = Counter()
    real, connect = socket.getaddrinfo, socket.socket.connect

    def lookup(host: Any, *args: Any, **given: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        asked[name] += 1
        if name == "rebinding.example":
            found = ["93.184.216.34"] if asked[name] % 2 else ["127.0.0.1"]
        elif name == "slow-rebinding.example":
            found = ["93.184.216.34"] if asked[name] < 3 else ["127.0.0.1"]
        elif name in NAMES:
            found = NAMES[name]
        elif set(name) <= set("0123456789abcdefxABCDEFX.:[]"):
            found = [name]
        else:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [info for address in found for info in real(address, *args, **given)]

    def refusing(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and is_public(str(address[0])):
            raise ConnectionRefusedError("nobody is there")
        return connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket.socket, "connect", refusing)
    forgetful = partial(aiohttp.TCPConnector, use_dns_cache=False)
    monkeypatch.setattr(aiohttp, "TCPConnector", forgetful)  # so that each try sees the names' new answers
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    return asked


def test_no_hostile_link_or_redirect_touches_what_is_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = Canary()
    asked = a_world_of_its_own(monkeypatch, canary.port)
    links = [link.replace("PORT", str(canary.port)) for link in LINKS]
    assert len(links) > 60
    with LocalServer(dict(FINE)) as server:
        for i, link in enumerate(links):
            server.pages[f"/to/{i}"] = Reply(
                status=302, headers={"Location": quote(link, safe=string.printable)}
            )
        ways = [server.url(f"/to/{i}") for i in range(len(links))]
        given = {"delay": 0.0, "retries": 3, "timeout": 5.0, "allow": frozenset({server.address})}
        crawl = fetch([*links, *ways, server.url("/fine")], tmp_path, FetchConfig(**given))
        assert server.asked()["/to/0"] == 1
    assert not canary.touched
    canary.close()
    ended = {outcome.url: outcome for outcome in read_outcomes(tmp_path)}
    assert crawl.pages == 1 and ended.pop(server.url("/fine")).cause is None
    assert len(ended) >= len(ways) + 40
    expected = {PRIVATE, "redirect to no address of the web", "redirects in a circle"}
    for outcome in ended.values():
        at_home = outcome.final.startswith(server.origin) and outcome.cause == "status 404"
        assert outcome.cause in expected or "no answer" in (outcome.cause or "") or at_home, outcome
    assert sum(outcome.cause == PRIVATE for outcome in ended.values()) > 80
    assert asked["rebinding.example"] > 1 and asked["slow-rebinding.example"] > 2


def test_the_canary_sings() -> None:
    canary = Canary()
    assert not canary.touched
    socket.create_connection(("127.0.0.1", canary.port)).close()
    assert canary.touched
    canary.close()


def test_a_network_may_be_allowed_by_name(tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server:
        for allowed in (server.address, "127.0.0.1", "127.0.0.0/8"):
            folder = tmp_path / allowed.replace("/", "_")
            fetch([server.url("/fine")], folder, FetchConfig(delay=0, allow=frozenset({allowed})))
        for other in ("10.0.0.0/8", "127.0.0.2", "[::1]:80", f"127.0.0.2:{server.address[10:]}"):
            with pytest.raises(FetchError, match=PRIVATE):
                fetch([server.url("/fine")], tmp_path / "no", FetchConfig(delay=0, allow=frozenset({other})))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *["127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
        *["169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1"],
        *["240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"],
        *["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1"],
        *[
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
        ],
        *["fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1"],
        *["4000::1", "127.1", "2130706433", "0x7f000001", "localhost"],
    ],
)
def test_addresses_inside_somebodys_network_are_not_public(address: str) -> None:
    assert not is_public(address)
