"""Writes swagger of what the fake serves, read out of Microsoft's own clients: their paths, status codes and models.

usage: swagger.py FOLDER

The clients are generated from the specification of Azure (github.com/Azure/azure-rest-api-specs), so that nothing of it has to be
kept here. What a client does not tell (patterns, lengths, which body has which model) is not checked, or stands in OPERATIONS.
"""

import ast
import enum
import importlib
import inspect
import json
import os
import re
import sys

# Of each operation: its method, the client's name of it, the models of the request and of the answer, queries that it may have.
COMPUTE = "azure.mgmt.compute"
DISKS = [
    ("PUT", "create_or_update", "{}", "{}"), ("PATCH", "update", "{}Update", "{}"), ("GET", "get", None, "{}"),
    ("DELETE", "delete", None, None), ("GET", "list_by_resource_group", None, "{}List"), ("GET", "list", None, "{}List"),
    ("POST", "grant_access", "GrantAccessData", "AccessUri"), ("POST", "revoke_access", None, None),
]
NETWORK = [("PUT", "create_or_update", "{}", "{}"), ("GET", "get", None, "{}"), ("DELETE", "delete", None, None)]
OPERATIONS = {
    (COMPUTE, "v2024_03_02", "DiskRP"): {
        "disks": [tuple(x and x.format("Disk") for x in row) for row in DISKS],
        "snapshots": [tuple(x and x.format("Snapshot") for x in row) for row in DISKS],
    },
    (COMPUTE, "v2024_07_01", "ComputeRP"): {
        "virtual_machines": [
            ("PUT", "create_or_update", "VirtualMachine", "VirtualMachine"),
            ("PATCH", "update", "VirtualMachineUpdate", "VirtualMachine"),
            ("GET", "get", None, "VirtualMachine", "$expand"),
            ("DELETE", "delete", None, None, "forceDeletion"),
            ("GET", "list", None, "VirtualMachineListResult", "$filter", "$expand"),
            ("GET", "list_all", None, "VirtualMachineListResult", "statusOnly", "$filter", "$expand"),
            ("GET", "instance_view", None, "VirtualMachineInstanceView"),
            ("POST", "start", None, None), ("POST", "deallocate", None, None, "hibernate"),
            ("POST", "power_off", None, None, "skipShutdown"), ("POST", "restart", None, None),
            ("POST", "attach_detach_data_disks", "AttachDetachDataDisksRequest", "StorageProfile"),
        ],
        "availability_sets": [
            ("PUT", "create_or_update", "AvailabilitySet", "AvailabilitySet"), ("GET", "get", None, "AvailabilitySet"),
            ("PATCH", "update", "AvailabilitySetUpdate", "AvailabilitySet"), ("DELETE", "delete", None, None),
            ("GET", "list", None, "AvailabilitySetListResult"),
        ],
        "usage": [("GET", "list", None, "ListUsagesResult")],
        "virtual_machine_sizes": [("GET", "list", None, "VirtualMachineSizeListResult")],
    },
    (COMPUTE, "v2021_07_01", "Skus"): {"resource_skus": [("GET", "list", None, "ResourceSkusResult", "$filter")]},
    ("azure.mgmt.network", "", "Network"): {
        "network_interfaces": [
            *[tuple(x and x.format("NetworkInterface") for x in row) for row in NETWORK],
            ("PATCH", "update_tags", "TagsObject", "NetworkInterface"),
            ("GET", "list", None, "NetworkInterfaceListResult"), ("GET", "list_all", None, "NetworkInterfaceListResult"),
        ],
        "virtual_networks": [
            *[tuple(x and x.format("VirtualNetwork") for x in row) for row in NETWORK],
            ("GET", "list", None, "VirtualNetworkListResult"), ("GET", "list_all", None, "VirtualNetworkListResult"),
            ("GET", "check_ip_address_availability", None, "IPAddressAvailabilityResult", "ipAddress"),
        ],
        "subnets": [
            *[tuple(x and x.format("Subnet") for x in row) for row in NETWORK], ("GET", "list", None, "SubnetListResult"),
        ],
    },
}
# The client itself calls its list of sizes deprecated: it has none of the newer ones.
OPEN = {"vmSize"}
SIMPLE = {
    "str": {"type": "string"}, "int": {"type": "integer"}, "float": {"type": "number"}, "bool": {"type": "boolean"},
    "iso-8601": {"type": "string", "format": "date-time"}, "object": {"type": "object", "additionalProperties": True},
    "duration": {"type": "string"}, "bytearray": {"type": "string"},
}


class Models:
    """Definitions of the models that are named, and of those that they name."""

    def __init__(self, module):
        self.module, self.definitions = module, {}

    def ref(self, name):
        if name not in self.definitions:
            self.definitions[name] = None
            self.definitions[name] = self.definition(getattr(self.module, name))
        return {"$ref": f"#/definitions/{name}"}

    def type(self, text):
        if text[0] == "[":
            return {"type": "array", "items": self.type(text[1:-1])}
        if text[0] == "{":
            return {"type": "object", "additionalProperties": self.type(text[1:-1])}
        if text in SIMPLE:
            return dict(SIMPLE[text])
        found = getattr(self.module, text)
        if inspect.isclass(found) and issubclass(found, enum.Enum):
            return {"type": "string", "enum": [item.value for item in found]}
        return self.ref(text)

    def definition(self, model):
        enums = dict(re.findall(r":vartype (\w+):\s+(?:str or\s+)?~[\w.]+\.(\w+)", model.__doc__ or ""))
        root = {"type": "object", "properties": {}, "additionalProperties": False}
        for name, of in model._attribute_map.items():
            *outer, last = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", of["key"])]
            place = root
            for part in outer:
                new = {"type": "object", "properties": {}, "additionalProperties": False}
                place = place["properties"].setdefault(part, new)
            schema = self.type(of["type"])
            known = getattr(self.module, enums.get(name, ""), None)
            if of["type"] == "str" and last not in OPEN and known is not None and issubclass(known, enum.Enum):
                schema["enum"] = [item.value for item in known]
            rules = model._validation.get(name, {})
            if rules.get("readonly") and "$ref" not in schema:
                schema["readOnly"] = True
            if rules.get("required"):
                place.setdefault("required", []).append(last)
            place["properties"][last] = schema
        return root


class Source:
    """What the text of a client's operations says."""

    def __init__(self, module):
        with open(module.__file__) as file:
            text = file.read()
        lines, self.bodies = text.splitlines(), {}
        body = lambda node: "\n".join(lines[node.lineno - 1:node.end_lineno])
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                self.bodies[node.name] = body(node)
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef):
                        self.bodies[f"{node.name}.{inner.name}"] = body(inner)

    def path(self, group, name):
        return re.search(r'"(/subscriptions/[^"]+)"', self.bodies[f"build_{group}_{name}_request"]).group(1)

    def version(self, group, name):
        return re.search(r'"api-version", "([\d-]+)"', self.bodies[f"build_{group}_{name}_request"]).group(1)

    def statuses(self, group, name):
        owner = "".join(part.capitalize() for part in group.split("_")) + "Operations"
        initial = self.bodies.get(f"{owner}._{name}_initial")
        body = initial or self.bodies[f"{owner}.{name}"]
        found = re.search(r"status_code not in \[([\d, ]+)\]", body).group(1)
        return [int(status) for status in found.split(",")], initial is not None


def operation(source, models, group, row):
    method, name, request, answer, *queries = row
    path = source.path(group, name)
    text = lambda where, name, needed: {"name": name, "in": where, "required": needed, "type": "string"}
    parameters = [text("path", part, True) for part in re.findall(r"{(\w+)}", path)]
    version = {**text("query", "api-version", True), "enum": [source.version(group, name)]}
    parameters += [version, *[text("query", query, False) for query in queries]]
    if request:
        parameters.append({"name": "body", "in": "body", "required": True, "schema": models.ref(request)})
    statuses, runs = source.statuses(group, name)
    responses = {}
    for status in statuses:
        responses[str(status)] = {"description": "as the client takes it"}
        # An operation that goes on tells its output at its end.
        if answer and not (method == "POST" and status == 202):
            responses[str(status)]["schema"] = models.ref(answer)
    error = {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
             "required": ["code", "message"]}
    error = {"type": "object", "properties": {"error": error}, "required": ["error"], "additionalProperties": False}
    responses["default"] = {"description": "an error", "schema": error}
    made = {"operationId": f"{group}_{name}", "parameters": parameters, "responses": responses}
    if runs:
        made["x-ms-long-running-operation"] = True
    if name.startswith("list"):
        made["x-ms-pageable"] = {"nextLinkName": "nextLink"}
    return path, method.lower(), made


def main(folder):
    for (package, version, file), groups in OPERATIONS.items():
        base = f"{package}.{version}" if version else package
        models = Models(importlib.import_module(f"{base}.models"))
        source = Source(importlib.import_module(f"{base}.operations._operations"))
        paths, stable = {}, set()
        for group, rows in groups.items():
            for row in rows:
                path, method, made = operation(source, models, group, row)
                paths.setdefault(path, {})[method] = made
                stable.add(source.version(group, row[1]))
        assert len(stable) == 1, stable
        stable = stable.pop()
        provider = "Microsoft.Network" if file == "Network" else "Microsoft.Compute"
        swagger = {
            "swagger": "2.0", "info": {"title": file, "version": stable}, "host": "management.azure.com",
            "schemes": ["https"], "consumes": ["application/json"], "produces": ["application/json"],
            "paths": paths, "definitions": models.definitions,
        }
        place = os.path.join(folder, "specification", file.lower(), "resource-manager", provider, file, "stable", stable)
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"{file}.json"), "w") as out:
            json.dump(swagger, out, indent=1)
        count = sum(len(methods) for methods in paths.values())
        print(f"{file} {stable}: {count} operations, {len(models.definitions)} models")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
