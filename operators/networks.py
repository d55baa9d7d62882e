"""Is an address in a network (CIDR notation)? Columnar for IPv4, by distinct value for IPv6."""

import ipaddress

import polars as pl

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(value: object) -> Network:
    """Return the network that `value` (10.0.0.0/8, 2001:db8::/32, or a single address) names, else raise ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"expected a network such as 10.0.0.0/8, got {value!r}")
    try:
        return ipaddress.ip_network(value)
    except ValueError as wrong:
        raise ValueError(f"{value!r} is no network such as 10.0.0.0/8 or 2001:db8::/32: {wrong}") from None


def in_network(text: pl.Expr, cidr: str) -> pl.Expr:
    """Return whether each address is in `cidr`: null for no text, false for what is no address of its family."""
    network = parse_network(cidr)
    if isinstance(network, ipaddress.IPv4Network):
        groups = text.str.extract_groups(_IPV4).struct
        address = pl.lit(0, pl.Int64)
        for octet in ("1", "2", "3", "4"):
            address = address * 256 + groups.field(octet).cast(pl.Int64)
        return address.is_between(int(network.network_address), int(network.broadcast_address))
    return text.map_batches(lambda column: _among(column, network), return_dtype=pl.Boolean)


def _among(column: pl.Series, network: Network) -> pl.Series:
    distinct = column.unique().drop_nulls().to_list()
    inside = [address for address in distinct if _contains(network, address)]
    return column.is_in(inside)


def _contains(network: Network, text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == network.version and address in network
