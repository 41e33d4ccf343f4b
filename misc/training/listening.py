"""Binds a library's server that listens on every address of the host to one of them.

The server of tf.data's service takes a port and no address. Its event loop, gRPC's, knows the
socket by its number and by its registration with epoll (man 7 epoll). A socket of our own that gets
both is the one that it accepts connections from, and its own is closed.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
import re
import socket

EVERYWHERE = "0.0.0.0"
_DESCRIPTORS = pathlib.Path("/proc/self/fd")
_DETAILS = pathlib.Path("/proc/self/fdinfo")
_EPOLL_CTL_ADD = 1  # sys/epoll.h
_ANSWER_SECONDS = 10


class _Event(ctypes.Structure):
    # struct epoll_event of sys/epoll.h.
    _pack_ = 1 if platform.machine() == "x86_64" else 0
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def open_socket(host, port=0):
    """Returns a socket that listens on one address alone, and lets others wait.

    Args:
        host: name or IPv4 address of this host.
        port: port, 0 for a free one.

    Raises:
        ValueError: when it cannot listen there; names the flags --host and --port.
    """
    if not _DETAILS.is_dir():
        raise ValueError(
            f"--host={host}: TensorFlow's server listens on all addresses, and only Linux can bind "
            f"it to one. --host={EVERYWHERE} allows all."
        )
    try:
        found = socket.create_server((host, port), backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"--host={host} --port={port}: cannot listen there: {reason}") from error
    found.setblocking(False)
    return found


def hand_over(own, port):
    """Gives a socket of `open_socket` to the server in this process that listens on a port.

    Raises:
        OSError: when that server is not found, or does not answer at the new address.
    """
    numbers = [number for number in _numbers() if _listens(number, port)]
    registrations = [(number, list(_registrations(number))) for number in numbers]
    if not all(found for _, found in registrations) or not registrations:
        raise OSError(f"Cannot bind the server on port {port}: its socket was not found")
    address = own.getsockname()
    system = ctypes.CDLL(None, use_errno=True)
    for number, found in registrations:
        os.dup2(own.fileno(), number, inheritable=False)
        for epoll, event in found:
            if system.epoll_ctl(epoll, _EPOLL_CTL_ADD, number, ctypes.byref(event)):
                raise OSError(ctypes.get_errno(), f"Cannot bind the server on port {port}")
    own.close()
    # An HTTP/2 server speaks first (RFC 9113, section 3.4).
    with socket.create_connection(address, timeout=_ANSWER_SECONDS) as probe:
        if not probe.recv(1):
            raise OSError(f"The server does not answer at {address[0]}:{address[1]}")


def _numbers():
    return [int(path.name) for path in _DESCRIPTORS.iterdir()]


def _listens(number, port):
    with contextlib.suppress(OSError):
        copy = os.dup(number)
        try:
            with socket.socket(fileno=copy) as found:
                return bool(
                    found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    and found.getsockname()[1] == port
                )
        except OSError:
            os.close(copy)  # no socket
    return False


def _registrations(number):
    """Yields (epoll's number, event) for each epoll that watches a descriptor."""
    for epoll in _numbers():
        with contextlib.suppress(OSError):
            if os.readlink(_DESCRIPTORS / str(epoll)) == "anon_inode:[eventpoll]":
                details = (_DETAILS / str(epoll)).read_text()
                pattern = rf"^tfd: *{number} events: *(\w+) data: *(\w+)"
                for events, data in re.findall(pattern, details, re.M):
                    yield epoll, _Event(int(events, 16), int(data, 16))
