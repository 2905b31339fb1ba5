"""Addresses that nobody here connects to, whatever a setting or an admin says."""

from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)
"""Where clouds tell a machine its credentials; one of them looks public. No setting opens them."""


def plain(address: Address) -> Address:
    """Return the v4 address where one is written as v6."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_never_reached(address: Address) -> bool:
    """Say whether an address is a cloud's metadata, one of this link alone, of many, or of nobody."""
    found = plain(address)
    return found in METADATA or found.is_link_local or found.is_multicast or found.is_unspecified
