"""Carries out admission policies on a pod, as an API server would, with a CEL of other people's."""

import copy
import re

import celpy
from celpy import celtypes


TYPE = re.compile(r"\b(?:Object(?:\.\w+)+|JSONPatch)(?=\{)")


def type_of(name):
    """A type of the policy: to be called with its fields."""

    class Made(celtypes.MapType):
        def __new__(cls, _fields=None):
            return super().__new__(cls)

        def __init__(self, fields=None):
            super().__init__(fields or {})
            self.name = name

    return Made


def split(text, by):
    return celtypes.ListType([celtypes.StringType(it) for it in str(text).split(str(by))])


def trim(text):
    return celtypes.StringType(str(text).strip())


def evaluate(expression, activation):
    # This CEL has no names of which one begins with another.
    flat = {name: name.replace(".", "_") for name in TYPE.findall(expression)}
    expression = TYPE.sub(lambda it: flat[it.group()], expression)
    environment = celpy.Environment(annotations={it: type_of(name) for name, it in flat.items()})
    program = environment.program(environment.compile(expression), functions={"split": split, "trim": trim})
    return program.evaluate(activation)


def plain(value):
    assert not isinstance(value, celpy.CELEvalError), value
    if isinstance(value, dict):
        return {str(key): plain(it) for key, it in value.items()}
    if isinstance(value, list):
        return [plain(it) for it in value]
    if isinstance(value, celtypes.BoolType):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    return str(value)


def check_names(value, path=None):
    """An API server refuses `Object.spec.x` in a place that is not called so."""
    name = getattr(value, "name", None)
    if isinstance(value, dict):
        if name and name != "JSONPatch":
            assert path is None or name == path, f"{name} where {path} belongs"
            path = name
        for key, it in value.items():
            check_names(it, None if name == "JSONPatch" or path is None else f"{path}.{key}")
    elif isinstance(value, list):
        for it in value:
            check_names(it, path)


def apply(document, patch):
    """RFC 6902, `add` only."""
    for step in patch:
        assert step["op"] == "add", step
        *parents, last = step["path"].split("/")[1:]
        place = document
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if isinstance(place, list):
            at = len(place) if last == "-" else int(last)
            assert at <= len(place), step["path"]
            place.insert(at, step["value"])
        else:
            place[last] = step["value"]
    return document


def activate(spec, pod):
    """What the expressions of a policy see, or None if the policy is not about this pod."""
    activation = {"object": celpy.json_to_cel(pod)}
    if not all(bool(evaluate(it["expression"], activation)) for it in spec["matchConditions"]):
        return None
    variables = celtypes.MapType({})
    activation["variables"] = variables
    for variable in spec["variables"]:
        variables[celtypes.StringType(variable["name"])] = evaluate(variable["expression"], activation)
    return activation


def objections(policy, pod):
    """What a ValidatingAdmissionPolicy says against the pod."""
    spec = policy["spec"]
    activation = activate(spec, pod)
    for validation in spec["validations"] if activation else []:
        if not evaluate(validation["expression"], activation):
            yield str(evaluate(validation["messageExpression"], activation))


def mutate(policy, pod):
    """The pod as the policy leaves it."""
    spec = policy["spec"]
    activation = activate(spec, pod)
    if activation is None:
        return pod
    pod = copy.deepcopy(pod)
    for mutation in spec["mutations"]:
        patch = evaluate(mutation["jsonPatch"]["expression"], activation)
        check_names(patch)
        pod = apply(pod, plain(patch))
    return pod
