"""The app: plain sockets that send GET and read the whole answer."""

import re
import socket
import time

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request(path="/"):
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def connect(port):
    """A connection that leaves nothing behind when it is closed: thousands are, and each would hold its port."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return connection


def is_whole(answer):
    """Whether these bytes are all of an answer."""
    head = answer.find(b"\r\n\r\n")
    return head >= 0 and len(answer) >= head + 4 + int(LENGTH.search(answer, 0, head + 2)[1])


def exchange(connection, path="/"):
    """Sends a GET, and reads the answer: its status and its size."""
    connection.sendall(request(path))
    answer = b""
    while not is_whole(answer):
        more = connection.recv(1 << 20)
        if not more:
            raise ConnectionError("closed in the middle of an answer")
        answer += more
    return int(answer[9:12]), len(answer)


def until_answered(port, process, path="/"):
    """Asks until the answer is 200."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with connect(port) as connection:
                if exchange(connection, path)[0] == 200:
                    return
        except (ConnectionError, TypeError):
            process.insist()
        time.sleep(0.0002)
    raise TimeoutError(f"no good answer on port {port} in 20 s")


def idle(port, count):
    """As many connections, each of which has had an answer and then been idle for a while, at most a thousand a second."""
    connections = []
    for _ in range(count):
        connection = connect(port)
        status, _ = exchange(connection)
        if status != 200:
            raise RuntimeError(f"answered {status} on connection {len(connections)}")
        connections.append(connection)
        time.sleep(0.001)
    time.sleep(4)
    return connections
