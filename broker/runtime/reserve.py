"""A port that several processes of one program are to share, kept for them from before the first to after the last."""

from __future__ import annotations

import errno
import socket


class ReservedPort:
    """Holds an address without listening on it; ``port`` 0 takes a free one, and :attr:`port` tells which.

    The address is taken for this socket alone, so it fails where anybody listens; then it is opened to sockets with
    SO_REUSEPORT of the same user, which are those of the children. The kernel spreads connections over the sockets
    that listen, and this one never does.

    Raises:
        OSError: The address cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        try:
            # Only while binding: connections of a run before this one may still be closing.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            self._socket.close()
            hint = "; is another server running there?" if error.errno == errno.EADDRINUSE else ""
            raise OSError(error.errno, f"cannot listen on {host}:{port} ({error.strerror}){hint}") from error
        self.port = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Lets the port go."""
        self._socket.close()
