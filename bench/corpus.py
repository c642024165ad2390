"""Sends the requests of tests/corpus through pillion and its peers, and tells what came to the upstream."""

import argparse
import json
import re
import shutil
import socket
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

from machine import described
from peer import HERE, TOKEN, peers

CORPUS = HERE.parent / "tests/corpus/requests.toml"
TOKEN_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (/[!-~]*|\*|https?://[!-~]+) HTTP/1\.[01]")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# The kinds of cases: what the corpus calls them, and what is asked.
MALFORMED, DOUBTFUL, GOOD = ("refused", "broken"), ("declined",), ("passed",)


class Malformed(Exception):
    """Bytes that no proxy should have written."""


def read_request(received):
    """The target of the request that these bytes begin with and its length; None if it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, *fields = received[:end].split(b"\r\n")
    if not REQUEST_LINE.fullmatch(line):
        raise Malformed(line)
    values = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        if not (colon and TOKEN_LINE.fullmatch(name) and VALUE.fullmatch(value)):
            raise Malformed(field)
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if len(values.get(b"host", [])) != 1 or len(lengths) + len(codings) > 1:
        raise Malformed(received[:end])
    if not all(it.isdigit() for it in lengths) or not all(it.lower() == b"chunked" for it in codings):
        raise Malformed(received[:end])
    target, start = line.split(b" ")[1], end + 4
    if codings:
        length = chunks_length(received[start:])
    else:
        length = int(lengths[0]) if lengths else 0
        length = length if len(received) >= start + length else None
    return None if length is None else (target, start + length)


def chunks_length(received):
    """How long a chunked body is, its trailers included; None if it is not whole."""
    at = 0
    while True:
        end = received.find(b"\r\n", at)
        if end < 0:
            return None
        size = received[at:end].split(b";")[0].strip(b" \t")
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            raise Malformed(received)
        at = end + 2
        if int(size, 16) == 0:
            end = received.find(b"\r\n", at)
            while end > at:
                at, end = end + 2, received.find(b"\r\n", end + 2)
            return None if end < 0 else end + 2
        at += int(size, 16) + 2
        if len(received) < at:
            return None
        if received[at - 2 : at] != b"\r\n":
            raise Malformed(received)


class Upstream:
    """Answers every request with its target, and remembers what came."""

    def __init__(self, run):
        self.run, self.tls_port, self.targets, self.malformed = run, 0, [], 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self):
        self.targets, self.malformed = [], 0

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        with connection:
            while True:
                try:
                    while (whole := read_request(received)) is None:
                        more = connection.recv(65536)
                        if not more:
                            return
                        received += more
                except Malformed:
                    self.malformed += 1
                    return
                except OSError:
                    return
                target, length = whole
                received = received[length:]
                answer = target
                if target == b"/token":
                    answer = json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()
                else:
                    self.targets.append(target)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                connection.sendall(head % len(answer) + answer)


def exchange(port, sent):
    """What comes back until it is quiet or over."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(QUIET_SECONDS)
            while more := connection.recv(65536):
                answer += more
        except OSError:
            pass
    return answer


QUIET_SECONDS = 0.05


@dataclass
class Verdicts:
    """How often a proxy was wrong."""

    malformed_passed: int = 0
    doubtful_passed: int = 0
    written_malformed: int = 0
    poisoned: int = 0
    good_refused: int = 0


def judged(running, upstream, cases):
    """All cases through one proxy."""
    verdicts = Verdicts()
    for kind, sent in cases:
        upstream.forget()
        answer = exchange(running.port, sent)
        arrived = len(upstream.targets)
        verdicts.written_malformed += upstream.malformed
        if kind in GOOD:
            verdicts.good_refused += b" 200 " not in answer[:20]
        elif arrived:
            verdicts.malformed_passed += kind in MALFORMED
            verdicts.doubtful_passed += kind in DOUBTFUL
        upstream.forget()
        sentinel = b"GET /api/sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        verdicts.poisoned += not exchange(running.port, sentinel).endswith(b"/sentinel")
    return verdicts


def read_cases():
    """What the corpus asks for: a kind, and bytes."""
    for rule in tomllib.loads(CORPUS.read_text())["rule"]:
        for kind in MALFORMED + DOUBTFUL + GOOD:
            for gap in rule.get(kind, []):
                yield kind, rule["request"].replace("{}", gap).encode("latin-1")


def main():
    arguments = argparse.ArgumentParser(prog="bench/run --corpus", description=__doc__)
    arguments.add_argument("--pillion", type=Path, required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--run", type=Path, required=True, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    run = options.run.resolve()
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    cases = list(read_cases())
    count = {kinds: sum(kind in kinds for kind, _ in cases) for kinds in (MALFORMED, DOUBTFUL, GOOD)}
    compared = [it for it in peers(options.pillion.resolve()) if not it.words]
    upstream = Upstream(run)
    rows = []
    for peer in compared:
        with peer.started(upstream, "/api/x", pinned=False) as running:
            rows.append((peer.name, judged(running, upstream, cases)))
    shutil.rmtree(run)
    print(f"`bench/run --corpus`: {len(cases)} requests. {described(compared)}\n")
    print("| | " + " | ".join(name for name, _ in rows) + " |")
    print("| --- |" + " ---: |" * len(rows))
    for label, figure in [
        (f"malformed requests passed on with the token, of {count[MALFORMED]}", "malformed_passed"),
        ("malformed bytes written to the upstream", "written_malformed"),
        (f"doubtful paths, hosts and methods passed on, of {count[DOUBTFUL]}", "doubtful_passed"),
        ("answers that went to another caller", "poisoned"),
        (f"good requests refused, of {count[GOOD]}", "good_refused"),
    ]:
        print(f"| {label} | " + " | ".join(str(getattr(it, figure)) for _, it in rows) + " |")


if __name__ == "__main__":
    main()
