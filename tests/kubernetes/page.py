"""Runs every command of docs/kubernetes.md, in its order, and compares what it prints with what the page shows.

Usage: page.py PILLION HELM KUBECTL

The cluster is `api_server.py`: a block that says `cluster=VERSION` begins with an empty one. helm, kubectl and pillion are
real, and so is the webhook that the API server asks.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import api_server

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/kubernetes.md"


def blocks():
    for kind, text in re.findall(r"^```(\S+[^\n]*)\n(.*?)^```$", PAGE.read_text(), re.S | re.M):
        language, *options = kind.split()
        yield language, dict(it.split("=", 1) for it in options), text


def matches(shown, told):
    """A line of `...` stands for any lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\s*\n" for line in shown)
    return re.fullmatch(pattern, told) is not None


def commands(text):
    """Each command of a block, with the lines that are shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


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
    webhook = subprocess.Popen([programs / "pillion", "webhook", "--listen=127.0.0.1:0", f"--cert={chain}", f"--key={key}",
                                "--drain-delay=0s"], stderr=subprocess.PIPE, text=True)
    port = json.loads(webhook.stderr.readline())["listening"].split(":")[1]
    run = 0
    try:
        cluster = api_server.Cluster(webhook=(port, chain))
        with api_server.serving(cluster) as server:
            place = {"clusters": [{"name": "here", "cluster": {"server": server}}], "users": [{"name": "me", "user": {}}],
                     "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}], "current-context": "here"}
            (directory / "kubeconfig").write_text(json.dumps(place))
            for language, options, text in blocks():
                if "file" in options:
                    (work / options["file"]).write_text(text)
                if "cluster" in options:
                    cluster.empty(f"v{options['cluster']}.0")
                    shutil.rmtree(directory / ".kube", ignore_errors=True)
                if language != "console":
                    continue
                for command, shown in commands(text):
                    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=work, env=environment, text=True,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
                    told = done.stdout if done.stdout.endswith("\n") or not done.stdout else done.stdout + "\n"
                    assert done.returncode == 0 and matches(shown, told), f"$ {command}\n{told}(code {done.returncode})"
                    run += 1
    finally:
        webhook.terminate()
        assert webhook.wait(timeout=20) == 0
    assert run > 10
    print(f"{run} commands of docs/kubernetes.md do what it shows")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(*sys.argv[1:], pathlib.Path(directory))
