"""The proxies that are compared, and the upstream that they call: configured from the files beside this one."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import client
from process import BOTH, LOAD_CORE, PROXY_CORE, Process, on

HERE = Path(__file__).parent
TOKEN = "bench-" + 32 * "0"  # as long as those that the upstream gives out


def free_port():
    """One that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill_in(template, words, values):
    """Lines that begin with `#word` count if the word is asked for, and `@name@` is the value of that name."""
    for word in words:
        template = re.sub(rf"(?m)^( *)#{word} ", r"\1", template)
    return re.sub(r"@(\w+)@", lambda name: str(values[name[1]]), template)


class Running:
    """A process and the port where it is called."""

    def __init__(self, process, port, admin=None):
        self.process, self.port, self.admin = process, port, admin

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.process.__exit__(*reason)


class Upstream(Running):
    """An nginx of its own, beside the load generator."""

    def __init__(self, run):
        self.run, self.tls_port, port = run, free_port(), free_port()
        (run / "www").mkdir()
        (run / "www/64k").write_text(65536 * "a")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=localhost"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"),
                *("-keyout", run / "upstream.key", "-out", run / "upstream.crt"),
            ],
            check=True,
            capture_output=True,
        )
        values = {"run": run, "port": port, "tls_port": self.tls_port, "kib": 1024 * "a"}
        config = run / "upstream.conf"
        config.write_text(fill_in((HERE / config.name).read_text(), (), values))
        with on({LOAD_CORE}):
            process = Process(["nginx", "-p", run, "-c", config, "-e", "stderr"], run / "upstream.log")
        super().__init__(process, port)
        client.until_answered(port, process, "/token")


@dataclass(frozen=True)
class Peer:
    """A proxy that could carry the token. `words` are the lines of its configuration that count."""

    name: str
    binary: Path
    config: str
    arguments: tuple = ()
    words: tuple = ()

    def start(self, upstream, tls=False, pinned=True, template=None):
        """Starts it on a core of its own with one worker, or on both cores with two. It may not listen yet."""
        run, port, admin = upstream.run, free_port(), free_port()
        workers = 1 if pinned else 2
        values = {
            "name": f"{self.config}-{port}",
            "run": run,
            "port": port,
            "admin": admin,
            "workers": workers,
            "token": TOKEN,
            "tokens": upstream.port,
            "upstream": upstream.tls_port if tls else upstream.port,
            "scheme": "https" if tls else "http",
        }
        config = run / f"{port}-{self.config}"
        template = template or (HERE / self.config).read_text()
        config.write_text(fill_in(template, self.words + ("tls",) * tls, values))
        command = [self.binary, *(fill_in(it, (), values | {"config": config}) for it in self.arguments)]
        with on({PROXY_CORE} if pinned else BOTH):
            process = Process(command, run / f"{port}.log", {"BENCH_SECRET": "bench"})
        return Running(process, port, admin)

    def started(self, upstream, path="/", **options):
        """Starts it, and waits for its first answer."""
        running = self.start(upstream, **options)
        try:
            client.until_answered(running.port, running.process, path)
        except BaseException:
            running.__exit__()
            raise
        return running

    def version(self):
        """As it says itself."""
        flag = {"nginx": "-v", "haproxy": "-v"}.get(self.binary.name, "--version")
        said = subprocess.run([self.binary, flag], capture_output=True, text=True, check=True)
        return re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)[0]

    def stripped_bytes(self, run):
        """The size of its binary without symbols."""
        stripped = run / "stripped"
        subprocess.run(["strip", "-o", stripped, self.binary], check=True)
        size = stripped.stat().st_size
        os.remove(stripped)
        return size


def found(name):
    """Where the command is."""
    return Path(shutil.which(name))


def peers(pillion):
    """All of them; the first is what the others are measured by."""
    nginx = ("-p", "@run@", "-c", "@config@", "-e", "stderr")
    envoy = Path(importlib.util.find_spec("envoy").origin).parent / "_bin/envoy"
    envoy_arguments = ("-c", "@config@", "--concurrency", "@workers@", "--disable-hot-restart", "-l", "error")
    return [
        Peer("nginx", found("nginx"), "nginx.conf", nginx),
        Peer("pillion", pillion, "pillion.toml", ("--config", "@config@")),
        Peer("HAProxy", found("haproxy"), "haproxy.cfg", ("-db", "-f", "@config@")),
        Peer("Envoy", envoy, "envoy.yaml", envoy_arguments),
        Peer("nginx, big buffers", found("nginx"), "nginx.conf", nginx, words=("buffers",)),
    ]
