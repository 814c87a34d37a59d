"""The peer of V1 in Python: reads the same properties of the same objects by pyVmomi, page by page, and counts what it has.

    discover.py URL USER PASSWORD-FILE SHA-256 '{"VirtualMachine": ["name", …], …}'
"""

import json
import pathlib
import sys

# What asks is the oracle's.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "vsphere-oracle"))

import oracle
from pyVim import connect
from pyVmomi import vim


def main():
    url, user, password, pin, wanted = sys.argv[1:]
    with open(password, encoding="utf-8") as file:
        service = oracle.log_in(url, user, file.readline().strip(), pin)
    content = service.RetrieveContent()
    read = {
        kind: [found for _, found, _ in oracle.found(content, getattr(vim, kind), paths)]
        for kind, paths in json.loads(wanted).items()
    }
    connect.Disconnect(service)
    machines = read["VirtualMachine"]
    devices = [device for machine in machines for device in machine.get("config.hardware.device", [])]
    counted = {kind: len(objects) for kind, objects in read.items()}
    counted["disks"] = sum(isinstance(device, vim.vm.device.VirtualDisk) for device in devices)
    counted["nics"] = sum(isinstance(device, vim.vm.device.VirtualEthernetCard) for device in devices)
    counted["extra"] = sum(len(machine.get("config.extraConfig", [])) for machine in machines)
    print(json.dumps(counted))


main()
