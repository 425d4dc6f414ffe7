"""Addresses to listen on: what they look like, and whether somebody else is there."""

from __future__ import annotations

import socket

from shared.settings import SettingsInvalid, StartRefused

_UNIX = "unix:"


class PortInUse(StartRefused):
    """The address cannot be listened on; the message says what to do."""


def check_port(listen: str, *, shared: bool = True) -> None:
    """PortInUse when somebody listens on the address; SettingsInvalid when it is none.

    Workers of one service share it by SO_REUSEPORT. With `shared` off, as a supervisor asks
    before it starts any, such a worker (of an earlier run or another checkout) counts too.
    """
    if listen.startswith(_UNIX):
        _check_unix(listen)
        return
    host, port = _parse(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise _malformed(listen) from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise unusable(listen, error.strerror or str(error)) from error


def unusable(listen: str, why: str) -> PortInUse:
    """The one line for an address that cannot be had."""
    return PortInUse(
        f"{listen} cannot be listened on ({why}); stop what runs there or "
        "choose another address in CARBONACCOUNT_<SERVICE>_LISTEN"
    )


def _parse(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise _malformed(listen)
    return host, int(port)


def _malformed(listen: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"CARBONACCOUNT_<SERVICE>_LISTEN is {listen[:64]!r}; it must be host:port, such as "
        "127.0.0.1:50051, or unix:/path"
    )


def _check_unix(listen: str) -> None:
    """gRPC takes a socket file away from whoever listens on it, so nobody may."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(listen.removeprefix(_UNIX))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as error:
            raise unusable(listen, error.strerror or str(error)) from error
    raise unusable(listen, "Address already in use")
