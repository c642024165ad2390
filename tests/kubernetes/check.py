"""What the chart renders, and whether the four ways into a pod put the same container there.

Usage: check.py PILLION HELM...

Each HELM is a helm of another version. The packages `kubernetes-validate`, `cel-python` and `PyYAML` have to be there, and
beside this file what package.json names.
"""

import base64
import itertools
import json
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import jsonschema
import kubernetes_validate
import yaml

import policy

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
CHART = ROOT / "helm"
GOLDEN = ROOT / "tests/golden/kubernetes"
VERSIONS = ["1.29", "1.33", "1.37"]


def run(*command, code=0, **options):
    """What a command prints; it has to end with this code."""
    done = subprocess.run([str(it) for it in command], capture_output=True, text=True, **options)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if code else "")


def template(helm, *arguments, chart=CHART, kube="1.37", code=0):
    out = run(helm, "template", "pillion", chart, "--namespace", "platform", "--kube-version", kube, *arguments, code=code)
    return out if code else [it for it in yaml.safe_load_all(out) if it]


def golden(case, kind):
    return yaml.safe_load((GOLDEN / f"{case}.{kind}.yaml").read_text())


def cases():
    return sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))


def sorted_volumes(pod):
    """The order of volumes means nothing."""
    pod["spec"].get("volumes", []).sort(key=lambda it: it["name"])
    return pod


def pods_of(manifest):
    """The specs of pods that a manifest makes."""
    spec = manifest.get("spec") or {}
    match manifest["kind"]:
        case "Pod":
            yield manifest
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            yield spec["template"]
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]
        case "List":
            for item in manifest["items"]:
                yield from pods_of(item)


def check_restricted(pod, only=None):
    """The restricted Pod Security Standard, and what is stricter here; of all containers, or of those called so."""
    spec = pod["spec"]
    for field in "hostNetwork", "hostPID", "hostIPC":
        assert not spec.get(field), field
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= allowed, volume
    names = []
    for container in spec.get("initContainers", []) + spec["containers"]:
        if only and container["name"] != only:
            continue
        names.append(container["name"])
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not context.get("privileged")
        assert all("hostPort" not in port for port in container.get("ports", []))
        assert all("subPath" not in mount for mount in container.get("volumeMounts", []))
        assert set(container["resources"]["limits"]) == {"memory"}, "no CPU limit"
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "preStop" not in container.get("lifecycle", {})
        for probe in "startupProbe", "livenessProbe", "readinessProbe":
            path = container.get(probe, {}).get("httpGet", {}).get("path")
            assert path in {"startupProbe": [None, "/readyz"], "livenessProbe": [None, "/livez"],
                            "readinessProbe": [None, "/readyz"]}[probe], (probe, path)
    assert names, "no container to judge"


def validate(manifests, kube):
    """Against the schemas of Kubernetes, strictly; the custom resources are given back."""
    custom = []
    for manifest in manifests:
        if manifest["apiVersion"].split("/")[0] in ("cert-manager.io", "monitoring.coreos.com"):
            custom.append(manifest)
        elif manifest["kind"] == "List":
            custom += validate(manifest["items"], kube)
        else:
            kubernetes_validate.validate(manifest, kube, strict=True)
    return custom


def the_matrix_is_valid(helms):
    rendered, custom = 0, []
    for helm, values in itertools.product(helms, sorted((CHART / "ci").glob("*-values.yaml"))):
        kubes = re.search(r"^# kubernetes: (.*)$", values.read_text(), re.M)[1].split()
        for kube in kubes:
            run(helm, "lint", "--strict", "--quiet", "--namespace", "platform", "--kube-version", kube, "-f", values, CHART)
            manifests = template(helm, "-f", values, kube=kube)
            custom += validate(manifests, kube)
            for pod in itertools.chain.from_iterable(map(pods_of, manifests)):
                check_restricted(pod)
            rendered += 1
    run("node", HERE / "custom_resources.js", input=json.dumps(custom))
    return f"{rendered} renderings valid, {len(custom)} custom resources among them"


def the_four_ways_are_one(pillion, helms):
    for case in cases():
        wanted = sorted_volumes(golden(case, "injected"))
        values = GOLDEN / f"{case}.values.yaml"
        field = "containers" if golden(case, "values").get("mode") == "container" else "initContainers"
        container = wanted["spec"][field][0]
        own = {it["name"] for it in golden(case, "pod")["spec"].get("volumes", [])}
        volumes = [it for it in wanted["spec"]["volumes"] if it["name"] not in own]
        for helm in helms:
            # The template, in a chart that depends on this one.
            deployment = shop(helm, values)
            pod = sorted_volumes(deployment["spec"]["template"])
            assert pod["spec"][field][0] == container, f"{case}: template of {helm}"
            assert pod["spec"]["volumes"] == volumes, f"{case}: volumes of {helm}"
            # The policy, with a pod's annotations and with the chart's values.
            [made] = [it for it in template(helm) if it["kind"] == "MutatingAdmissionPolicy"]
            assert sorted_volumes(policy.mutate(made, golden(case, "pod"))) == wanted, f"{case}: policy"
            [made] = [it for it in template(helm, "-f", values) if it["kind"] == "MutatingAdmissionPolicy"]
            bare = golden(case, "pod")
            bare["metadata"].pop("annotations", None)
            mutated = sorted_volumes(policy.mutate(made, bare))
            assert mutated["spec"] == wanted["spec"], f"{case}: policy of values"
            # What the webhook is started with, by what inject makes of the same.
            made = template(helm, "-f", values, "--set", "injector=webhook,webhook.certManager.enabled=true")
            [webhook] = [it for it in made if it["kind"] == "Deployment"]
            arguments = webhook["spec"]["template"]["spec"]["containers"][0]["args"]
            arguments = [it for it in arguments[1:] if not re.match("--(listen|admin|cert|key)=", it)]
            out = run(pillion, "inject", "-f", "-", *arguments, input=yaml.safe_dump(bare))
            injected = sorted_volumes(yaml.safe_load(out))
            assert injected["spec"] == wanted["spec"], f"{case}: webhook's arguments"
        out = run(pillion, "inject", "-f", GOLDEN / f"{case}.pod.yaml")
        assert sorted_volumes(yaml.safe_load(out)) == wanted, f"{case}: inject"
        check_restricted(wanted, only="pillion")
        for kube in VERSIONS:
            validate([wanted], kube)
        if field == "initContainers":
            assert container["restartPolicy"] == "Always"
    there = golden("injected", "pod")
    [made] = [it for it in template(helms[0]) if it["kind"] == "MutatingAdmissionPolicy"]
    assert policy.mutate(made, there) == there
    for kube in VERSIONS:
        validate(yaml.safe_load_all((GOLDEN / "workloads.injected.yaml").read_text()), kube)
    return f"{len(cases())} cases, each by template, policy, webhook and inject"


def a_mistake_is_told_by_policy_and_webhook_alike(pillion, helms):
    [made] = [it for it in template(helms[0]) if it["kind"] == "ValidatingAdmissionPolicy"]
    for case in cases():
        assert not list(policy.objections(made, golden(case, "pod"))), case
    assert not list(policy.objections(made, {"metadata": {}, "spec": {}}))
    mistakes = {"pillion.dev/nonsense": "1", "pillion.dev/mode": "native", "pillion.dev/image-pull-policy": "Sometimes"}
    for annotation, value in mistakes.items():
        pod = golden("default", "pod")
        pod["metadata"]["annotations"] = {annotation: value, "other.example/x": "1"}
        [told] = policy.objections(made, pod)
        by_inject = run(pillion, "inject", "-f", "-", code=1, input=yaml.safe_dump(pod))
        assert told.removeprefix("pillion: ") in by_inject, (told, by_inject)
    return f"{len(mistakes)} mistakes"


def shop(helm, values):
    """The Deployment of an app team's chart that depends on this one."""
    with tempfile.TemporaryDirectory() as directory:
        chart = pathlib.Path(directory) / "shop"
        shutil.copytree(HERE / "shop", chart)
        shutil.copytree(CHART, chart / "charts/pillion")
        below = pathlib.Path(directory) / "values.yaml"
        below.write_text(yaml.safe_dump({"pillion": {"config": "pillion", "secrets": [], **yaml.safe_load(values.read_text())}}))
        manifests = template(helm, "-f", below, chart=chart, kube="1.33")
    [deployment] = [it for it in manifests if it["kind"] == "Deployment"]
    assert len(manifests) == 1, "a dependency brings nothing of its own"
    return deployment


def scraped(port):
    """What the webhook counts, by series; promtool has nothing to say about it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(f"http://localhost:{port}/metrics", timeout=10).read().decode()
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert told.returncode == 0 and not told.stdout + told.stderr, told
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def a_running_webhook_answers(pillion):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        chain, key = directory / "tls.crt", directory / "tls.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain)
        server = subprocess.Popen([pillion, "webhook", "--listen=[::]:0", "--admin=[::]:0", f"--cert={chain}", f"--key={key}",
                                   "--drain-delay=0s"], stderr=subprocess.PIPE, text=True)
        try:
            ready = json.loads(server.stderr.readline())
            port, admin = (re.search(r":(\d+)$", ready[name])[1] for name in ("listening", "admin"))
            trust = ssl.create_default_context(cafile=chain)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
            for case in cases():
                review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                          "request": {"uid": case, "operation": "CREATE", "object": golden(case, "pod")}}
                request = urllib.request.Request(f"https://localhost:{port}/mutate", json.dumps(review).encode(),
                                                 {"Content-Type": "application/json"})
                answer = json.load(opener.open(request, timeout=10))["response"]
                assert answer["uid"] == case and answer["allowed"] and answer["patchType"] == "JSONPatch", answer
                pod = policy.apply(golden(case, "pod"), json.loads(base64.b64decode(answer["patch"])))
                assert sorted_volumes(pod) == sorted_volumes(golden(case, "injected")), case
                validate([pod], "1.29")
                check_restricted(pod, only="pillion")
            series = scraped(admin)
            assert series['pillion_webhook_reviews_total{outcome="patched"}'] == str(len(cases())), series
            assert float(series["pillion_webhook_certificate_expiration_timestamp_seconds"]) > time.time(), series
        finally:
            server.terminate()
            assert server.wait(timeout=20) == 0
    return f"{len(cases())} reviews answered, each patch applied"


def the_webhook_cannot_stop_the_cluster(helms):
    for helm in helms:
        manifests = template(helm, "--set", "injector=webhook,webhook.certManager.enabled=true", kube="1.33")
        kinds = {it["kind"]: it for it in manifests}
        [webhook] = kinds["MutatingWebhookConfiguration"]["webhooks"]
        assert webhook["failurePolicy"] == "Fail" and webhook["sideEffects"] == "None"
        assert webhook["objectSelector"] == {"matchLabels": {"pillion.dev/inject": "true"}}
        [rule] = webhook["namespaceSelector"]["matchExpressions"]
        assert rule["operator"] == "NotIn" and {"platform", "kube-system"} <= set(rule["values"])
        deployment = kinds["Deployment"]["spec"]
        assert deployment["replicas"] == 2
        budget = kinds["PodDisruptionBudget"]["spec"]
        assert budget["selector"] == deployment["selector"] and budget["maxUnavailable"] == 1
        [https, admin] = [it["name"] for it in deployment["template"]["spec"]["containers"][0]["ports"]]
        assert https == kinds["Service"]["spec"]["ports"][0]["targetPort"]
        assert [it["port"] for it in kinds["NetworkPolicy"]["spec"]["ingress"][0]["ports"]] == [https, admin]
        assert "pillion.platform.svc" in kinds["Certificate"]["spec"]["dnsNames"]
    return "labelled pods only, other namespaces only, two replicas"


def mistakes_are_told_with_advice(helms):
    guards = [
        (["--kube-version", "1.33"], "set injector=webhook"),
        (["--set", "injector=policy", "--kube-version", "1.33"], "needs Kubernetes 1.36"),
        (["--set", "injector=webhook"], "webhook.certManager.enabled=true"),
        (["--set", "injector=webhook,webhook.tls.secretName=x"], "webhook.tls.caBundle"),
        (["--set", "injector=webhook,webhook.certManager.enabled=true,tests.namespace=platform"], "tests.namespace"),
        (["--set", "injector=webhook,webhook.certManager.enabled=true,webhook.replicas=1"], "webhook.replicas=2"),
        (["--set", "injector=webhook,webhook.certManager.enabled=true,webhook.adminPort=8443"], "webhook.adminPort"),
        (["--set", "mode=both"], "mode"),
        (["--set", "secret=x"], "secret"),
        (["--set", "resources.limits.cpu=1"], "cpu"),
        (["--set", "secrets[0]=A"], "secrets"),
    ]
    for helm, (arguments, advice) in itertools.product(helms, guards):
        told = template(helm, *arguments, code=1)
        assert advice in told, f"{arguments}: {told}"
    return f"{len(guards)} mistakes"


def values_table():
    """The README's table: each value with the comment above it."""
    lines = ["| value | default | what it is |", "|---|---|---|"]
    path, comment = [], []
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    for line in text.splitlines():
        if said := re.match(r"\s*# (?:-- )?(.*)", line):
            comment.append(said[1])
        elif entry := re.match(r"( *)(\w+):", line):
            path = path[:len(entry[1]) // 2] + [entry[2]]
            if comment:
                default = values
                for key in path:
                    default = default[key]
                lines.append(f"| `{'.'.join(path)}` | `{json.dumps(default)}` | {' '.join(comment)} |")
            comment = []
    return "\n".join(lines) + "\n"


def the_readme_has_every_value(update=False):
    readme = CHART / "README.md"
    before, _, after = re.split(r"(?<=<!-- values -->\n)(.*)(?=<!-- until here -->)", readme.read_text(), flags=re.S)
    wanted = before + values_table() + after
    if update:
        readme.write_text(wanted)
    assert readme.read_text() == wanted, "helm/README.md is not of these values: tests/kubernetes/check.py --readme"
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["$schema"].endswith("/draft/2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(schema)
    return f"{values_table().count(chr(10)) - 2} values"


def the_page_knows_everything(pillion):
    """Each alert has a runbook, each annotation a row; versions and defaults are those of the program."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    alerts = [rule["alert"] for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    for alert in alerts:
        assert f"\n#### {alert}\n" in page, f"{alert} has no runbook"
        assert f"docs/kubernetes.md#{alert.lower()}\n" in (CHART / "files/alerts.yaml").read_text(), alert
    source = (ROOT / "src/kubernetes/annotations.rs").read_text()
    names = re.search(r"pub const NAMES[^=]*= \[(.*?)\]", source, re.S)[1]
    names = re.findall(r'"([\w-]+)"', names)
    assert 0 < len(names) <= 12
    for name in names:
        assert f"| `pillion.dev/{name}` |" in page, f"{name} has no row"
        assert f'"annotation" "{name}"' in (CHART / "templates/policy.yaml").read_text(), f"{name} is unknown to the policy"
        assert f'"pillion.dev/{name}"' in (CHART / "templates/policy.yaml").read_text(), f"{name} would be refused"
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = run(pillion, "--version").split()[1]
    assert chart["appVersion"] == chart["version"] == version
    return f"{len(alerts)} runbooks, {len(names)} annotations"


def main(pillion, *helms):
    began = time.monotonic()
    pillion, helms = pathlib.Path(pillion).absolute(), [pathlib.Path(it).absolute() for it in helms]
    for check, arguments in [
        (the_readme_has_every_value, []),
        (the_page_knows_everything, [pillion]),
        (mistakes_are_told_with_advice, [helms]),
        (the_webhook_cannot_stop_the_cluster, [helms]),
        (the_four_ways_are_one, [pillion, helms]),
        (a_mistake_is_told_by_policy_and_webhook_alike, [pillion, helms]),
        (a_running_webhook_answers, [pillion]),
        (the_matrix_is_valid, [helms]),
    ]:
        print(f"{check.__name__.replace('_', ' ')}: {check(*arguments)} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        the_readme_has_every_value(update=True)
    else:
        main(*sys.argv[1:])
