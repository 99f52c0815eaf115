"""Which addresses may be asked: those of the public internet, and private ones that were allowed by name.

A crawler follows where strangers point, so it must be of no use for reaching inside somebody's network. An
address is judged where the socket to it is made, after all names are resolved and redirects followed, so that
no spelling, name, changed answer of a name server, or redirect gets past. Rejected: judging the host in the
URL, or its answer in the name server before connecting, between which and the connection it can change.

    python -c "from gpt2.corpus.fetch.addresses import is_public; print(is_public('169.254.169.254'))"
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any

from gpt2.errors import ConfigError

PRIVATE = "not an address of the public internet"
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""Family, kind, protocol, name, and address with port: what a resolver gives and a socket is made for."""


class Refused(OSError):
    """An address that may not be asked."""


def is_public(address: str) -> bool:
    """Whether an IP address, as text, belongs to the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        return is_public(str(inside)) if inside else ip in GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast


class Allowed:
    """Private addresses that may be asked all the same: 127.0.0.1:8000, [::1]:8000, 10.1.2.3 or 10.1.0.0/16."""

    def __init__(self, names: Iterable[str]) -> None:
        self.ports: set[tuple[str, int]] = set()
        self.networks: list[Network] = []
        for name in names:
            try:
                host, colon, port = name.rpartition(":")
                if colon and (host.startswith("[") or ":" not in host):
                    self.ports.add((str(ipaddress.ip_address(host.strip("[]"))), int(port)))
                else:
                    self.networks.append(ipaddress.ip_network(name))
            except ValueError:
                raise ConfigError(
                    f"{name!r} names no address; give one as 127.0.0.1:8000, 10.1.2.3 or 10.1.0.0/16"
                ) from None

    def has(self, host: str, port: int) -> bool:
        """Whether this address and port were allowed."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        return (str(ip), port) in self.ports or any(ip in network for network in self.networks)


def public_sockets(allowed: Allowed) -> Callable[[AddressInfo], socket.socket]:
    """What makes the sockets for connections: the last word on whether an address may be asked."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, (host, port, *_) = info
        if not is_public(host) and not allowed.has(host, port):
            raise Refused(PRIVATE)
        return socket.socket(family, kind, protocol)

    return make
