"""As much of an API server as `kubectl` and `helm` need, on 127.0.0.1: what is created is kept, a Deployment becomes a pod,
and pods pass MutatingAdmissionPolicies and webhooks as they do in a cluster. Nothing runs: a pod has succeeded when pillion
is in it. A pod for which a pillion was started elsewhere gives its log and, through the pod's proxy, its admin port.
"""

import base64
import contextlib
import copy
import itertools
import json
import ssl
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

import policy

RESOURCES = {
    "v1": ["Namespace", "Pod", "ConfigMap", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment"],
    "batch/v1": ["Job", "CronJob"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "admissionregistration.k8s.io/v1": [
        "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
    "cert-manager.io/v1": ["Certificate", "Issuer"],
    "monitoring.coreos.com/v1": ["PodMonitor", "PrometheusRule"],
}
CLUSTER_WIDE = {"Namespace", *RESOURCES["admissionregistration.k8s.io/v1"]}


def plural(kind):
    name = kind.lower()
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


KINDS = {(version, plural(kind)): kind for version, kinds in RESOURCES.items() for kind in kinds}


class Cluster:
    """What has been created."""

    def __init__(self, webhook):
        # Where the Service of the webhook leads, and whom to trust there: (port, CA file).
        self.webhook = webhook
        # The pillion of a pod, by the pod's name: (port of its admin listener, file of its log).
        self.running = {}
        self.numbers = itertools.count(1)
        self.lock = threading.RLock()
        self.empty("v1.37.0")

    def empty(self, version):
        """Begins anew, as a cluster of this version."""
        self.version = version
        self.objects = {}
        self.events = []
        for namespace in "default", "kube-system":
            self.put("v1", "Namespace", "", {"metadata": {"name": namespace}})

    def put(self, version, kind, namespace, item):
        with self.lock:
            metadata = item.setdefault("metadata", {})
            if kind == "Pod" and (version, kind, namespace, metadata.get("name")) not in self.objects:
                item = self.admit(item, namespace)
                metadata = item["metadata"]
            metadata.setdefault("name", metadata.get("generateName", "") + str(next(self.numbers)))
            key = (version, kind, namespace, metadata["name"])
            number = str(next(self.numbers))
            metadata.update(uid=f"uid-{metadata['name']}", resourceVersion=number, generation=1,
                            creationTimestamp="2026-01-01T00:00:00Z")
            if namespace:
                metadata["namespace"] = namespace
            item.update(apiVersion=version, kind=kind)
            item["status"] = self.status(kind, item)
            what = "MODIFIED" if key in self.objects else "ADDED"
            self.objects[key] = item
            self.events.append((what, key, copy.deepcopy(item)))
            if kind == "Deployment":
                self.roll_out(item, namespace)
            return item

    def status(self, kind, item):
        if kind == "Deployment":
            replicas = item["spec"].get("replicas", 1)
            return {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                    "conditions": [{"type": "Available", "status": "True"},
                                   {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}
        if kind == "Pod":
            there = "pillion" in {it["name"] for it in item["spec"].get("initContainers", [])}
            if item["spec"].get("restartPolicy") == "Never":
                return {"phase": "Succeeded" if there else "Failed"}
            return {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        return {"phase": "Active"} if kind == "Namespace" else {}

    def roll_out(self, deployment, namespace):
        name = deployment["metadata"]["name"]
        for key in [it for it in self.objects if it[1:3] == ("Pod", namespace) and it[3].startswith(f"{name}-")]:
            del self.objects[key]
        pod = copy.deepcopy(deployment["spec"]["template"])
        pod.setdefault("metadata", {})["generateName"] = f"{name}-"
        self.put("v1", "Pod", namespace, pod)

    def admit(self, pod, namespace):
        labels = pod["metadata"].get("labels") or {}
        if labels.get("pillion.dev/inject") != "true":
            return pod
        for (_, kind, _, _), item in list(self.objects.items()):
            if kind == "MutatingAdmissionPolicy" and selects(item["spec"]["matchConstraints"], namespace):
                pod = policy.mutate(item, pod)
            if kind == "MutatingWebhookConfiguration":
                for webhook in item["webhooks"]:
                    if selects(webhook, namespace):
                        pod = self.ask(pod)
        return pod

    def ask(self, pod):
        port, authority = self.webhook
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                  "request": {"uid": "1", "operation": "CREATE", "object": pod}}
        request = urllib.request.Request(f"https://localhost:{port}/mutate", json.dumps(review).encode(),
                                         {"Content-Type": "application/json"})
        response = json.load(opener.open(request, timeout=10))["response"]
        assert response["allowed"], response
        return policy.apply(pod, json.loads(base64.b64decode(response.get("patch", "W10="))))


def selects(constraints, namespace):
    for rule in constraints.get("namespaceSelector", {}).get("matchExpressions", []):
        assert rule["operator"] == "NotIn", rule
        if namespace in rule["values"]:
            return False
    return True


def merge(into, patch):
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


def fields(message):
    """The fields of a protobuf message: their numbers, and what is in them."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            assert key & 7 == 2, "a type of field that Kubernetes does not use here"
            length = number()
            yield key >> 3, message[at:at + length]
            at += length


def protobuf(message):
    """A Namespace, ConfigMap or Secret as the clients send those: k8s.io/apimachinery's `Unknown`, and in it the object."""
    unknown = dict(fields(message))
    kind = dict(fields(unknown[1]))[2].decode()
    item = {"metadata": {}}
    for number, value in fields(unknown[2]):
        if number == 1:
            for field, text in fields(value):
                if name := {1: "name", 2: "generateName"}.get(field):
                    if text:
                        item["metadata"][name] = text.decode()
                if name := {11: "labels", 12: "annotations"}.get(field):
                    entry = dict(fields(text))
                    item["metadata"].setdefault(name, {})[entry[1].decode()] = entry[2].decode()
        elif number == 2 and kind in ("ConfigMap", "Secret"):
            entry = dict(fields(value))
            data = base64.b64encode(entry.get(2, b"")) if kind == "Secret" else entry.get(2, b"")
            item.setdefault("data", {})[entry[1].decode()] = data.decode()
        elif number == 3 and kind == "Secret":
            item["type"] = value.decode()
    return item


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster = None

    def log_message(self, *_):
        pass

    def body(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if text.startswith(b"k8s\0"):
            return protobuf(text[4:])
        return yaml.safe_load(text) if text else {}

    def answer(self, body, status=200):
        self.send(json.dumps(body).encode(), "application/json", status)

    def send(self, body, kind, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, reason, message):
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
                     "message": message, "details": {}}, status)

    def route(self):
        """The version, the kind, the namespace and the name that a path is about."""
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        steps = url.path.strip("/").split("/")
        version, rest = (steps[1], steps[2:]) if steps[0] == "api" else ("/".join(steps[1:3]), steps[3:])
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = KINDS.get((version, rest[0])) if rest else None
        self.below = "/".join(rest[2:])
        return version, kind, namespace, rest[1] if len(rest) > 1 else None

    def discovery(self):
        path = urllib.parse.urlsplit(self.path).path.rstrip("/")
        groups = [it for it in RESOURCES if "/" in it]
        if path == "/version":
            _, minor, _ = self.cluster.version.split(".")
            return {"major": "1", "minor": minor, "gitVersion": self.cluster.version}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            def group(version):
                entry = {"groupVersion": version, "version": version.split("/")[1]}
                return {"name": version.split("/")[0], "versions": [entry], "preferredVersion": entry}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(it) for it in groups]}
        version = path.removeprefix("/api/").removeprefix("/apis/")
        if path.startswith(("/api/", "/apis/")) and version in RESOURCES:
            verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            resources = [{"name": plural(it), "singularName": it.lower(), "kind": it, "verbs": verbs,
                          "namespaced": it not in CLUSTER_WIDE} for it in RESOURCES[version]]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        if path == "/openapi/v3":
            paths = {it if "/" in it else f"api/{it}": it for it in RESOURCES}
            paths = {f"apis/{it}" if not it.startswith("api/") else it: version for it, version in paths.items()}
            return {"paths": {it: {"serverRelativeURL": f"/openapi/v3/{it}"} for it in paths}}
        if path.startswith("/openapi/v3/"):
            version = path.removeprefix("/openapi/v3/").removeprefix("apis/").removeprefix("api/")
            group, _, short = version.rpartition("/")
            operations = {}
            for kind in RESOURCES[version]:
                place = f"/{plural(kind)}/{{name}}"
                operations[place] = {"patch": {
                    "parameters": [{"name": it, "in": "query", "schema": {"type": "string"}}
                                   for it in ("fieldValidation", "dryRun")],
                    "responses": {}, "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": {"group": group, "version": short, "kind": kind}}}
            return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": operations, "components": {"schemas": {}}}
        return None

    def do_GET(self):
        found = self.discovery()
        if found is not None:
            return self.answer(found)
        version, kind, namespace, name = self.route()
        if not kind:
            return self.refuse(404, "NotFound", f"nothing is at {self.path}")
        if kind == "Pod" and self.below:
            return self.of_pillion(namespace, name)
        if name:
            item = self.cluster.objects.get((version, kind, namespace, name))
            if item is None:
                return self.refuse(404, "NotFound", f'{plural(kind)} "{name}" not found')
            return self.answer(item)
        if self.query.get("watch") in ("1", "true"):
            return self.watch(version, kind, namespace)
        with self.cluster.lock:
            items = [it for key, it in self.cluster.objects.items() if self.is_meant(key, it, version, kind, namespace)]
        self.answer({"kind": f"{kind}List", "apiVersion": version,
                     "metadata": {"resourceVersion": str(next(self.cluster.numbers))}, "items": items})

    def of_pillion(self, namespace, name):
        """The log of a pod's pillion, or what is behind its admin port: `/pods/POD:PORT/proxy/PATH`."""
        name, _, port = name.partition(":")
        pod = self.cluster.objects[("v1", "Pod", namespace, name)]
        [container] = [it for it in pod["spec"]["initContainers"] if it["name"] == "pillion"]
        admin, log = self.cluster.running[name]
        if self.below == "log" and self.query["container"] == "pillion":
            return self.send(log.read_bytes(), "text/plain")
        if self.below.startswith("proxy/") and port == str(container["ports"][0]["containerPort"]):
            request = urllib.request.Request(f"http://127.0.0.1:{admin}/{self.below.removeprefix('proxy/')}",
                                             headers={"Accept": self.headers["Accept"]})
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return self.send(answer.read(), answer.headers["Content-Type"])
        return self.refuse(404, "NotFound", f"nothing is at {self.path}")

    def is_meant(self, key, item, version, kind, namespace):
        if key[:2] != (version, kind) or (namespace and key[2] != namespace):
            return False
        labels = item["metadata"].get("labels") or {}
        for wish in filter(None, self.query.get("labelSelector", "").split(",")):
            name, _, value = wish.partition("=")
            if labels.get(name) != value.lstrip("="):
                return False
        field = self.query.get("fieldSelector", "")
        return not field.startswith("metadata.name=") or field.split("=")[1] == key[3]

    def watch(self, version, kind, namespace):
        if "sendInitialEvents" in self.query:
            # Clients then list first, as they always have.
            return self.refuse(422, "Invalid", "sendInitialEvents is not known here")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        since = int(self.query.get("resourceVersion") or 0)
        deadline, told = time.monotonic() + 60, 0
        while time.monotonic() < deadline:
            with self.cluster.lock:
                events = self.cluster.events[told:]
                told = len(self.cluster.events)
            for what, key, item in events:
                if int(item["metadata"]["resourceVersion"]) > since and self.is_meant(key, item, version, kind, namespace):
                    self.wfile.write(json.dumps({"type": what, "object": item}).encode() + b"\n")
                    self.wfile.flush()
            time.sleep(0.02)

    def do_POST(self):
        item = self.body()
        version, kind, namespace, _ = self.route()
        if not kind:
            return self.refuse(404, "NotFound", f"nothing is at {self.path}")
        name = item["metadata"].get("name")
        if (version, kind, namespace, name) in self.cluster.objects:
            return self.refuse(409, "AlreadyExists", f'{plural(kind)} "{name}" already exists')
        self.answer(self.cluster.put(version, kind, namespace, item), 201)

    def do_PUT(self):
        version, kind, namespace, _ = self.route()
        self.answer(self.cluster.put(version, kind, namespace, self.body()))

    def do_PATCH(self):
        version, kind, namespace, name = self.route()
        patch = self.body()
        there = self.cluster.objects.get((version, kind, namespace, name))
        applied = "apply-patch" in self.headers.get("Content-Type", "")
        if there is None and not applied:
            return self.refuse(404, "NotFound", f'{plural(kind)} "{name}" not found')
        patch.setdefault("metadata", {})["name"] = name
        item = merge(copy.deepcopy(there), patch) if there else patch
        self.answer(self.cluster.put(version, kind, namespace, item), 200 if there else 201)

    def do_DELETE(self):
        version, kind, namespace, name = self.route()
        self.body()
        item = self.cluster.objects.pop((version, kind, namespace, name), None)
        if item is None:
            return self.refuse(404, "NotFound", f'{plural(kind)} "{name}" not found')
        with self.cluster.lock:
            item["metadata"]["resourceVersion"] = str(next(self.cluster.numbers))
            self.cluster.events.append(("DELETED", (version, kind, namespace, name), item))
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})


@contextlib.contextmanager
def serving(cluster):
    """The address of a server of this cluster."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Request", (Request,), {"cluster": cluster}))
    server.daemon_threads = True
    server.handle_error = lambda request, client: None if isinstance(sys.exc_info()[1], OSError) else traceback.print_exc()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
