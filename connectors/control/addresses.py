"""May we send to this address? A webhook's URL comes from a customer; it must not lead into our own network.

`refusal` is a pure function over the URL and the addresses its host resolves to. A name may resolve differently later,
so who sends asks again, and connects to an address that was checked.
"""

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

_LONGEST = 2048
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa", "lan", "intranet", "corp")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


def refusal(url: str, addresses: Collection[str] = (), *, private: bool = False) -> str | None:
    """Return why nothing may be sent there, as the end of a sentence that begins with the field's name; else None.

    addresses: what the host's name resolves to, none where that is not known. private: hosts of our own network and
    plain http are allowed.
    """
    if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must be a URL of printable ASCII characters, at most 2048"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        return "must begin with https://"
    if not host:
        return "must name a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if private:
        return None
    literal = _literal(host)
    if literal is not None:
        return None if _public(literal) else "must not lead to a private, local or reserved address"
    name = host.rstrip(".")
    if "." not in name or name.endswith(tuple(f".{local}" for local in _LOCAL_NAMES)):
        return "must not name a host of a local network"
    if not all(_public(ip_address(address.partition("%")[0])) for address in addresses):
        return "must not lead to a private, local or reserved address"
    return None


def host_of(url: str) -> str | None:
    """Return the host whose name is to be resolved before `refusal`; None where there is none, or it is an address."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host if host and _literal(host) is None else None


def _literal(host: str) -> Address | None:
    """Return the address that the host is written as, in any form that a resolver understands (0x7f.1, 2130706433)."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def _public(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return _public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _inner(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
