"""Names of this machine that nobody else can reach."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of the loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
