"""No panel of the dashboard is empty: pillion under load, scraped by a real Prometheus, which is asked every query.

Usage: panels.py PILLION
"""

import http.client
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = pathlib.Path(__file__).parents[2]
DASHBOARD = ROOT / "helm/files/dashboard.json"
DEADLINE = 60

CONFIG = """
[listen]
address = "127.0.0.1:{app}"
[provider.idp]
type = "oauth2"
token_endpoint = "http://127.0.0.1:{fake}/token"
client_id = "app"
client_secret = {{ file = "{directory}/secret" }}
warm = true
[provider.tenants]
type = "oauth2"
token_endpoint = "http://127.0.0.1:{fake}/token"
client_id = "app"
client_secret = {{ file = "{directory}/secret" }}
inputs = ["tenant"]
[[route]]
path = "/api"
upstream = "http://127.0.0.1:{fake}"
provider = "idp"
[[route]]
path = "/tenants/{{tenant}}"
upstream = "http://127.0.0.1:{fake}"
provider = "tenants"
inputs = {{ tenant = "{{path.tenant}}" }}
"""


class Fake(BaseHTTPRequestHandler):
    """A provider and an upstream: every twentieth request is told that its token is not good any more."""

    protocol_version = "HTTP/1.1"
    tokens = 0
    requests = 0

    def do_GET(self):
        Fake.requests += 1
        if Fake.requests % 20 == 0:
            self.answer(401, {})
        else:
            self.answer(502 if Fake.requests % 50 == 1 else 200, {})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Fake.tokens += 1
        self.answer(200, {"access_token": f"token-{Fake.tokens}", "token_type": "Bearer", "expires_in": 600})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        return server.server_port


def get(port, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(what, is_so):
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            if is_so():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {DEADLINE} s")
        time.sleep(0.1)


def load(port, stop):
    number = 0
    while not stop.is_set():
        number += 1
        get(port, "/api/x", {"Authorization": "mine"} if number % 10 == 0 else {})
        if number % 5 == 0:
            get(port, f"/tenants/{number}/x")
        time.sleep(0.01)


def queries():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$namespace", ".*").replace("$pod", ".*").replace("$__rate_interval", "20s")
            assert "$" not in query, query
            yield panel["title"], query


def values(prometheus, query):
    status, body = get(prometheus, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    answer = json.loads(body)
    assert status == 200, f"{query}: {answer}"
    return [float(sample["value"][1]) for sample in answer["data"]["result"]]


def main(pillion, directory):
    fake = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    app, admin, prometheus = free_port(), free_port(), free_port()
    (directory / "secret").write_text("not a secret")
    (directory / "proxy.toml").write_text(CONFIG.format(app=app, fake=fake.server_port, directory=directory))
    (directory / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "pillion", "static_configs": [
            {"targets": [f"127.0.0.1:{admin}"], "labels": {"namespace": "shop", "pod": "shop-0"}}]}],
    }))
    stop = threading.Event()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": (directory / "log").open("w")}
    running = [
        subprocess.Popen([pillion, "run", "-c", directory / "proxy.toml", "--admin-port", str(admin)], **quiet),
        subprocess.Popen(["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb",
                          f"--web.listen-address=127.0.0.1:{prometheus}"], **quiet),
    ]
    try:
        until("pillion is ready", lambda: get(admin, "/readyz")[0] == 200)
        threading.Thread(target=load, args=(app, stop), daemon=True).start()
        until("Prometheus is ready", lambda: get(prometheus, "/-/ready")[0] == 200)
        asked = list(queries())
        for title, query in asked:
            until(f"panel `{title}` is empty: {query}",
                  lambda query=query: any(not math.isnan(it) for it in values(prometheus, query)))
        seen = {name for _, query in asked for name in re.findall(r"pillion_\w+", query)}
        print(f"{len(asked)} queries of {len({title for title, _ in asked})} panels have answers, about {len(seen)} metrics")
    except BaseException:
        print((directory / "log").read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        stop.set()
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(sys.argv[1], pathlib.Path(directory))
