#!/usr/bin/env python3
"""What stands on a vCenter or an ESXi host, told by VMware's own client, as one JSON document on standard output.

    oracle.py [MACHINE] --url https://vcenter.example --user dr --password-file secret --sha256 <of the certificate>

MACHINE leaves all machines out but those of this name. Nothing is changed. The document is described in README.md.
"""

import argparse
import hashlib
import json
import re
import ssl
import sys
from urllib.parse import urlsplit

from pyVim import connect
from pyVmomi import vim, vmodl

MACHINE = [
    "name",
    "runtime.powerState",
    "runtime.consolidationNeeded",
    "config.template",
    "config.instanceUuid",
    "config.firmware",
    "config.bootOptions.efiSecureBootEnabled",
    "config.guestId",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.extraConfig",
    "config.changeTrackingEnabled",
    "snapshot",
]
OURS = "site-recovery."
PAGE = 100
# Seconds without a byte of an answer.
PATIENCE = 60


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("machine", nargs="?")
    for name in ("url", "user", "password-file", "sha256"):
        asked.add_argument(f"--{name}", required=True)
    asked = asked.parse_args()
    with open(asked.password_file, encoding="utf-8") as file:
        password = file.readline().rstrip("\r\n")
    service = log_in(asked.url, asked.user, password, asked.sha256)
    try:
        json.dump(told(service.RetrieveContent(), asked.machine), sys.stdout, ensure_ascii=False, indent=1)
    finally:
        connect.Disconnect(service)


def log_in(url, user, password, pin):
    """pyVmomi looks at a thumbprint only where the system's authorities do not vouch, so the pin is checked here: before
    anything is sent, and then by trusting this one certificate on each connection."""
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname:
        sys.exit(f"{url} is no https address")
    place = (address.hostname, address.port or 443)
    found = ssl.get_server_certificate(place, timeout=PATIENCE)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(found)).hexdigest()
    if digest != pin.replace(":", "").lower():
        sys.exit(f"{address.netloc} shows another certificate than the pinned one: SHA-256 {digest}")
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The pin says who it is, whatever name it has, and whoever signed it.
    trust.check_hostname = False
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trust.load_verify_locations(cadata=found)
    try:
        return connect.SmartConnect(
            host=place[0], port=place[1], user=user, pwd=password, sslContext=trust, httpConnectionTimeout=PATIENCE
        )
    except vim.fault.InvalidLogin:
        sys.exit(f"{address.netloc} takes neither this user nor this password")


def told(content, wanted):
    machines = list(found(content, vim.VirtualMachine, MACHINE))
    names = {moref._moId: shown(read.get("name", "")) for moref, read, _ in machines}
    about = content.about
    return {
        "about": {"product": about.name, "apiVersion": about.apiVersion, "apiType": about.apiType},
        "machines": [machine(*one) for one in machines if wanted in (None, names[one[0]._moId])],
        "autostart": list(autostart(content, names)),
        "drs": list(drs(content, names)),
        "storageDrs": list(storage_drs(content, names)),
    }


def found(content, kind, paths):
    """Objects of a kind, each with what was read and what could not be. By narrow paths: pyVmomi refuses whole structures
    in which a server leaves an enumeration empty, as VMware's simulator does."""
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    query = vmodl.query.PropertyCollector
    below = query.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[below])],
        propSet=[query.PropertySpec(type=kind, pathSet=paths)],
    )
    collector = content.propertyCollector
    page = collector.RetrievePropertiesEx([spec], query.RetrieveOptions(maxObjects=PAGE))
    while page:
        for one in page.objects:
            missing = {lost.path: type(lost.fault.fault).__name__ for lost in one.missingSet}
            yield one.obj, {prop.name: prop.val for prop in one.propSet}, missing
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    view.DestroyView()


def machine(moref, read, missing):
    devices = read.get("config.hardware.device", [])
    controllers = {device.key: device for device in devices if isinstance(device, vim.vm.device.VirtualController)}
    snapshots = read.get("snapshot")
    extra = read.get("config.extraConfig", [])
    return {
        "name": shown(read.get("name", "")),
        "escapedName": read.get("name"),
        "moref": moref._moId,
        "instanceUuid": read.get("config.instanceUuid"),
        "power": read.get("runtime.powerState"),
        "template": read.get("config.template"),
        "snapshots": [snapshot(root) for root in snapshots.rootSnapshotList] if snapshots else [],
        "disks": [disk(d, controllers) for d in devices if isinstance(d, vim.vm.device.VirtualDisk)],
        "nics": [nic(d) for d in devices if isinstance(d, vim.vm.device.VirtualEthernetCard)],
        "firmware": read.get("config.firmware"),
        "secureBoot": read.get("config.bootOptions.efiSecureBootEnabled"),
        "cpus": read.get("config.hardware.numCPU"),
        "memoryMiB": read.get("config.hardware.memoryMB"),
        "guestId": read.get("config.guestId"),
        "extra": {option.key: option.value for option in extra if option.key.startswith(OURS)},
        "changeTracking": read.get("config.changeTrackingEnabled"),
        "consolidationNeeded": read.get("runtime.consolidationNeeded"),
        "missing": missing,
    }


def shown(name):
    """As people gave it: a server keeps three characters escaped."""
    return re.sub("%(25|2f|5c)", lambda code: chr(int(code[1], 16)), name, flags=re.IGNORECASE)


def snapshot(node):
    return {
        "name": node.name,
        "description": node.description,
        "moref": node.snapshot._moId,
        "quiesced": node.quiesced,
        "children": [snapshot(child) for child in node.childSnapshotList],
    }


def disk(device, controllers):
    backing = device.backing
    controller = controllers.get(device.controllerKey)
    chain, below = [], getattr(backing, "parent", None)
    while below:
        chain.append(below.fileName)
        below = below.parent
    return {
        "key": device.key,
        "label": device.deviceInfo.label if device.deviceInfo else None,
        "file": getattr(backing, "fileName", None),
        "parents": chain,
        "capacity": device.capacityInBytes or device.capacityInKB * 1024,
        "uuid": getattr(backing, "uuid", None),
        "mode": getattr(backing, "diskMode", None),
        "tracked": bool(getattr(backing, "changeId", None)),
        "controller": kind(controller),
        "bus": controller.busNumber if controller else None,
        "unit": device.unitNumber,
    }


def nic(device):
    port = getattr(device.backing, "port", None)
    network = port.portgroupKey if port else getattr(device.backing, "deviceName", None)
    return {
        "key": device.key,
        "kind": kind(device),
        "mac": device.macAddress,
        "network": network,
        "connected": device.connectable.connected if device.connectable else None,
    }


def kind(device):
    """`ParaVirtualSCSIController`, as the schema has it."""
    return type(device).__name__.rsplit(".", 1)[-1] if device else None


def autostart(content, names):
    for _, read, _ in found(content, vim.HostSystem, ["name", "configManager.autoStartManager"]):
        manager = read.get("configManager.autoStartManager")
        config = manager.config if manager else None
        for info in config.powerInfo if config else []:
            yield {
                "host": shown(read["name"]),
                "hostStartsMachines": bool(config.defaults and config.defaults.enabled),
                "machine": names.get(info.key._moId),
                "moref": info.key._moId,
                "startAction": info.startAction,
            }


def drs(content, names):
    for _, read, _ in found(content, vim.ClusterComputeResource, ["name", "configurationEx"]):
        for one in read["configurationEx"].drsVmConfig:
            yield override(read, one.key, one.enabled, names)


def storage_drs(content, names):
    for _, read, _ in found(content, vim.StoragePod, ["name", "podStorageDrsEntry"]):
        for one in read["podStorageDrsEntry"].storageDrsConfig.vmConfig:
            yield override(read, one.vm, one.enabled, names)


def override(read, key, enabled, names):
    return {"in": shown(read["name"]), "machine": names.get(key._moId), "moref": key._moId, "enabled": enabled}


if __name__ == "__main__":
    main()
