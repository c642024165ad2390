"""Runs every command of docs/kubernetes.md, in its order, and compares what it prints with what the page shows.

Usage: page.py PILLION HELM KUBECTL

The cluster is `api_server.py`: a block that says `cluster=VERSION` begins with an empty one. helm, kubectl and pillion are
real, and so is the webhook that the API server asks. A block that says `alert=POD` is about a pod whose pillion is refused by
its provider; one that says `run=job` is at the top of the script of a Job's app. A block that nothing runs fails the test.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

import api_server

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/kubernetes.md"


def blocks():
    page = PAGE.read_text()
    found = re.findall(r"^```(\S+[^\n]*)\n(.*?)^```$", page, re.S | re.M)
    assert page.count("```") == 2 * len(found), "a block without a language, or in a list: nothing would run it"
    for kind, text in found:
        language, *options = kind.split()
        yield language, dict(it.split("=", 1) for it in options), text


def matches(shown, told):
    """A line of `...` stands for any lines, and `...` in a line for anything there."""
    lines = (r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\s*\n" for line in shown)
    pattern = "".join(lines)
    return re.fullmatch(pattern, told) is not None


def commands(text):
    """Each command of a block, with the lines that are shown below it."""
    nothing, *parts = re.split(r"^\$ ", text, flags=re.M)
    assert not nothing and parts, f"a block that does not begin with a command: {text}"
    for part in parts:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


@contextlib.contextmanager
def serving(pillion, config, arguments, log, until):
    """A pillion that serves `config` and has logged `until`, and the port of its admin listener."""
    place = log.with_suffix(".toml")
    place.write_text('[listen]\naddress = "127.0.0.1:0"\n' + config)
    with log.open("w") as stderr:
        process = subprocess.Popen([pillion, "run", f"--config={place}", "--admin-port=0", *arguments], stderr=stderr)
    try:
        deadline = time.monotonic() + 20
        while until not in (told := log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.01)
        yield process, re.search(r'"admin":"[^"]*:(\d+)"', told)[1]
    finally:
        process.kill()
        process.wait()


class Refusing(BaseHTTPRequestHandler):
    """A token endpoint that does not know this client."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error":"invalid_client"}'
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def refused(pillion, config, log):
    """The port of the admin listener of a pillion whose provider refuses: the page's own file, with another endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config, changed = re.subn(r'token_endpoint = ".*"', f'token_endpoint = "http://127.0.0.1:{server.server_port}"', config)
    assert changed == 1
    for name in "client_id", "client_secret":
        log.with_name(name).write_text("shop")
    config = config.replace("/run/secrets/stitch", str(log.parent))
    try:
        with serving(pillion, config, [], log, "token fetch failed") as (_, admin):
            yield admin
    finally:
        server.shutdown()


def a_job_completes(pillion, trap, log):
    """Beside pillion as a container, an app begins with `trap` and fails: its code is kept, and pillion ends with 0."""
    pod = yaml.safe_load((ROOT / "tests/golden/kubernetes/container.injected.yaml").read_text())
    container = pod["spec"]["containers"][0]
    arguments = [it for it in container["args"][1:] if not it.startswith(("--config=", "--admin-port="))]
    assert container["name"] == "pillion" and arguments, container
    with serving(pillion, "", arguments, log, '"ready"') as (process, port):
        _, *hook = container["lifecycle"]["postStart"]["exec"]["command"]
        subprocess.run([pillion, *(it.replace("9901", port) for it in hook)], check=True, capture_output=True, timeout=20)
        script = trap.replace("localhost:9901", f"localhost:{port}") + "exit 3\n"
        assert port in script, script
        app = subprocess.run(["sh", "-c", script], env={**os.environ, "NO_PROXY": "localhost"}, capture_output=True, timeout=20)
        assert app.returncode == 3, f"{script}{app}"
        assert process.wait(timeout=60) == 0, log.read_text()


def labelled(name):
    """A pod that asks for pillion."""
    return {"metadata": {"name": name, "labels": {"pillion.dev/inject": "true"}}, "spec": {"containers": [{"name": "app"}]}}


def is_of_the_shop(text):
    """Whether the lines of a block stand in a file of the app team's chart, in this order."""
    for file in (ROOT / "tests/kubernetes/shop").rglob("*.yaml"):
        there = iter(file.read_text().splitlines())
        if all(line in there for line in text.splitlines()):
            return True
    return False


def show(command, shown, work, environment):
    """Runs a command, which has to succeed and to print what is shown."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=work, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    told = done.stdout if done.stdout.endswith("\n") or not done.stdout else done.stdout + "\n"
    assert done.returncode == 0 and matches(shown, told), f"$ {command}\n{told}(code {done.returncode})"


def main(pillion, helm, kubectl, directory):
    work, programs = directory / "work", directory / "bin"
    shutil.copytree(ROOT / "helm", work / "helm")
    shutil.copytree(ROOT / "tests/kubernetes/shop", work / "tests/kubernetes/shop")
    programs.mkdir()
    for name, program in ("pillion", pillion), ("helm", helm), ("kubectl", kubectl):
        (programs / name).symlink_to(pathlib.Path(program).absolute())
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(directory), "NO_PROXY": "127.0.0.1",
                   "KUBECONFIG": str(directory / "kubeconfig")}
    chain, key = directory / "tls.crt", directory / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
                   check=True, capture_output=True)
    webhook = subprocess.Popen([programs / "pillion", "webhook", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", f"--cert={chain}", f"--key={key}",
                                "--drain-delay=0s"], stderr=subprocess.PIPE, text=True)
    port = json.loads(webhook.stderr.readline())["listening"].split(":")[1]
    run, jobs = 0, []
    try:
        cluster = api_server.Cluster(webhook=(port, chain))
        with api_server.serving(cluster) as server, contextlib.ExitStack() as more:
            pool = more.enter_context(concurrent.futures.ThreadPoolExecutor())
            place = {"clusters": [{"name": "here", "cluster": {"server": server}}], "users": [{"name": "me", "user": {}}],
                     "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}], "current-context": "here"}
            (directory / "kubeconfig").write_text(json.dumps(place))
            for language, options, text in blocks():
                if "file" in options:
                    (work / options["file"]).write_text(text)
                if "cluster" in options:
                    cluster.empty(f"v{options['cluster']}.0")
                    shutil.rmtree(directory / ".kube", ignore_errors=True)
                if pod := options.get("alert"):
                    log = directory / f"{pod}.log"
                    admin = more.enter_context(refused(programs / "pillion", (work / "proxy.toml").read_text(), log))
                    cluster.running[pod] = admin, log
                    cluster.put("v1", "Pod", "default", labelled(pod))
                    environment |= {"NAMESPACE": "default", "POD": pod}
                match language, options:
                    case "console", _:
                        for command, shown in commands(text):
                            show(command, shown, work, environment)
                            run += 1
                    case "sh", {"run": "job"}:
                        jobs.append(pool.submit(a_job_completes, programs / "pillion", text, directory / "job.log"))
                    case "toml" | "yaml", _:
                        assert "file" in options or is_of_the_shop(text), f"nothing reads this:\n{text}"
                    case _:
                        raise AssertionError(f"nothing runs this block of {language}:\n{text}")
            for job in jobs:
                job.result()
                run += 1
    finally:
        webhook.terminate()
        assert webhook.wait(timeout=20) == 0
    assert run > 10
    print(f"{run} commands of docs/kubernetes.md do what it shows")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(*sys.argv[1:], pathlib.Path(directory))
