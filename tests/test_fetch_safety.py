"""No link, name or redirect leads the fetcher into somebody's network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from local_server import FINE, LocalServer, Reply, Script, causes, pages_of

from gpt2.corpus.addresses import PRIVATE, is_public
from gpt2.corpus.fetch import FetchConfig, fetch
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
