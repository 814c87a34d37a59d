"""Runs the flows of a failover and a way back against the program `fake-arm`, by Microsoft's own clients.

usage: client.py FAKE_ARM RECORDING
"""

import json
import os
import subprocess
import struct
import sys
import tempfile
import time
import uuid

import requests

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient

GROUP, PLACE = "rg", "westeurope"


class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken("token", int(time.time()) + 3600)


def wait_for(path, process):
    for _ in range(600):
        if os.path.exists(path):
            with open(path) as file:
                return json.load(file)
        if process.poll() is not None:
            raise SystemExit(f"fake-arm ended with {process.returncode}")
        time.sleep(0.05)
    raise SystemExit("fake-arm does not become ready")


def refused(code, begin):
    """That it is refused, at once or at the end, by this code."""
    try:
        begin()
    except HttpResponseError as error:
        found = error.error.code if error.error else None
        assert found == code, f"{found}, not {code}: {error}"
        return
    raise AssertionError(f"not refused by {code}")


def footer(size):
    """That of a fixed VHD, after Microsoft's specification of the format."""
    text = struct.pack(
        ">8sIIQI4sI4sQQHBBI", b"conectix", 2, 0x10000, 2**64 - 1, 0, b"win ", 0xA0000, b"Wi2k", size, size, 1, 4, 17, 2
    )
    rest = uuid.uuid4().bytes + bytes(428)
    return text + struct.pack(">I", ~(sum(text) + sum(rest)) & 0xFFFFFFFF) + rest


class Flows:
    def __init__(self, told, client, network, storage):
        self.told, self.client, self.network, self.storage = told, client, network, storage

    def put(self, address, query, headers, body=b""):
        """A request to a signed address, of which the code of a refusal is told."""
        headers = {"x-ms-version": "2021-12-02", **headers}
        answer = requests.put(address + query, headers=headers, data=body, verify=self.storage, timeout=60)
        return answer.status_code, answer.headers.get("x-ms-error-code")

    def page(self, address, at, body):
        headers = {"x-ms-page-write": "update", "x-ms-range": f"bytes={at}-{at + len(body) - 1}"}
        return self.put(address, "&comp=page", headers, body)

    def id(self, provider, kind, name):
        subscription = self.told["subscription"]
        return f"/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/{provider}/{kind}/{name}"

    def disk(self, name):
        return self.id("Microsoft.Compute", "disks", name)

    def importing(self, blob):
        return {
            "location": PLACE, "os_type": "Linux", "hyper_v_generation": "V2", "tags": {"sr-op": "k"},
            "sku": {"name": "StandardSSD_LRS"},
            "creation_data": {
                "create_option": "Import", "source_uri": self.told["blobs"][blob],
                "storage_account_id": self.told["account"],
            },
        }

    def disks(self):
        disks = self.client.disks
        disk = disks.begin_create_or_update(GROUP, "os", self.importing("good")).result()
        assert (disk.provisioning_state, disk.disk_state) == ("Succeeded", "Unattached"), disk
        assert (disk.disk_size_bytes, disk.os_type, disk.hyper_v_generation) == (1 << 20, "Linux", "V2"), disk
        refused("BadRequest", lambda: disks.begin_create_or_update(GROUP, "bad", self.importing("bad")).result())
        assert disks.get(GROUP, "bad").provisioning_state == "Failed"
        disks.begin_delete(GROUP, "bad").result()
        refused("ResourceNotFound", lambda: disks.get(GROUP, "bad"))
        disk = disks.begin_update(GROUP, "os", {"tags": {"sr-op": "l"}}).result()
        assert disk.tags == {"sr-op": "l"}, disk.tags
        empty = {"location": PLACE, "disk_size_gb": 1, "creation_data": {"create_option": "Empty"}}
        disks.begin_create_or_update(GROUP, "data", empty).result()
        assert sorted(disk.name for disk in disks.list_by_resource_group(GROUP)) == ["data", "os"]
        assert sorted(disk.name for disk in disks.list()) == ["data", "os"]

    def uploads(self):
        disks, size = self.client.disks, 20 << 20
        def upload(size):
            data = {"create_option": "Upload", "upload_size_bytes": size + 512}
            return {"location": PLACE, "os_type": "Linux", "creation_data": data}
        small = lambda: disks.begin_create_or_update(GROUP, "up", upload(size - (1 << 20))).result()
        refused("InvalidParameter", small)
        disk = disks.begin_create_or_update(GROUP, "up", upload(size)).result()
        assert (disk.disk_state, disk.disk_size_bytes) == ("ReadyToUpload", size), disk
        assert disk.creation_data.upload_size_bytes == size + 512, disk
        read, write = ({"access": access, "duration_in_seconds": 3600} for access in ("Read", "Write"))
        refused("Conflict", lambda: disks.begin_grant_access(GROUP, "up", read).result())
        address = disks.begin_grant_access(GROUP, "up", write).result().access_sas
        assert "sig=" in address and disks.get(GROUP, "up").disk_state == "ActiveUpload"
        assert disks.begin_grant_access(GROUP, "up", write).result().access_sas == address
        refused("OperationNotAllowed", lambda: disks.begin_delete(GROUP, "up").result())
        refused("InvalidVhd", lambda: disks.begin_revoke_access(GROUP, "up").result())
        assert self.page(address, 4096, b"7" * 512) == (201, None)
        refused("InvalidVhd", lambda: disks.begin_revoke_access(GROUP, "up").result())
        assert disks.get(GROUP, "up").disk_state == "ActiveUpload"
        blob = {"x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": str(size + 512)}
        assert self.put(address, "", blob) == (409, "OperationNotAllowed")
        assert self.page(address, size + 512, b"7" * 512) == (416, "InvalidPageRange")
        assert self.page(address, size, footer(size)) == (201, None)
        disks.begin_revoke_access(GROUP, "up").result()
        disk = disks.get(GROUP, "up")
        assert (disk.disk_state, disk.disk_size_bytes) == ("Unattached", size), disk
        assert self.page(address, 4096, b"8" * 512)[0] == 403
        refused("Conflict", lambda: disks.begin_grant_access(GROUP, "up", write).result())
        for name in ("waits", "half"):
            disks.begin_create_or_update(GROUP, name, upload(size)).result()
        disks.begin_grant_access(GROUP, "half", write).result()
        assert sorted(disk.name for disk in disks.list()) == ["data", "half", "os", "up", "waits"]

    def snapshots(self):
        snapshots = self.client.snapshots
        for name in ("base", "next"):
            source = {"create_option": "Copy", "source_resource_id": self.disk("os")}
            body = {"location": PLACE, "incremental": True, "creation_data": source}
            made = snapshots.begin_create_or_update(GROUP, name, body).result()
            assert made.incremental and made.completion_percent == 100, made
            assert made.incremental_snapshot_family_id == made.creation_data.source_unique_id, made
        access = {"access": "Read", "duration_in_seconds": 3600}
        assert "sig=" in snapshots.begin_grant_access(GROUP, "base", access).result().access_sas
        assert snapshots.get(GROUP, "base").disk_state == "ActiveSAS"
        snapshots.begin_revoke_access(GROUP, "base").result()
        assert len(list(snapshots.list_by_resource_group(GROUP))) == 2
        source = {"create_option": "Copy", "source_resource_id": self.id("Microsoft.Compute", "snapshots", "base")}
        copy = self.client.disks.begin_create_or_update(GROUP, "copy", {"location": PLACE, "creation_data": source}).result()
        assert (copy.os_type, copy.disk_size_bytes) == ("Linux", 1 << 20), copy

    def interfaces(self):
        subnet = self.id("Microsoft.Network", "virtualNetworks", "vnet/subnets/servers")
        assert self.network.subnets.get(GROUP, "vnet", "servers").id == subnet
        assert self.network.virtual_networks.get(GROUP, "vnet").subnets[0].id == subnet
        check = lambda address: self.network.virtual_networks.check_ip_address_availability(GROUP, "vnet", ip_address=address)
        assert check("10.0.1.9").available
        def body(method, address):
            of = {"name": "one", "subnet": {"id": subnet}, "private_ip_allocation_method": method}
            return {"location": PLACE, "ip_configurations": [{**of, "private_ip_address": address}]}
        nics = self.network.network_interfaces
        nic = nics.begin_create_or_update(GROUP, "nic", body("Static", "10.0.1.9")).result()
        assert (nic.provisioning_state, nic.ip_configurations[0].private_ip_address) == ("Succeeded", "10.0.1.9"), nic
        assert not check("10.0.1.9").available
        taken = lambda: nics.begin_create_or_update(GROUP, "other", body("Static", "10.0.1.9")).result()
        refused("PrivateIPAddressIsAllocated", taken)
        other = nics.begin_create_or_update(GROUP, "other", body("Dynamic", None)).result()
        assert other.ip_configurations[0].private_ip_address == "10.0.1.4", other
        nics.begin_delete(GROUP, "other").result()
        assert [nic.name for nic in nics.list(GROUP)] == ["nic"]

    def machine(self, os="os", nic="nic", data=()):
        attach = lambda name: {"create_option": "Attach", "managed_disk": {"id": self.disk(name)}}
        return {
            "location": PLACE,
            "hardware_profile": {"vm_size": "Standard_D2s_v5"},
            "storage_profile": {
                "os_disk": {"os_type": "Linux", **attach(os)},
                "data_disks": [{"lun": lun, **attach(name)} for lun, name in enumerate(data)],
            },
            "network_profile": {"network_interfaces": [{"id": self.id("Microsoft.Network", "networkInterfaces", nic)}]},
        }

    def machines(self):
        machines = self.client.virtual_machines
        body = {"location": PLACE, "platform_fault_domain_count": 2, "sku": {"name": "Aligned"}}
        made = self.client.availability_sets.create_or_update(GROUP, "set", body)
        assert made.platform_fault_domain_count == 2, made
        assert self.client.availability_sets.get(GROUP, "set").sku.name == "Aligned"
        refused("NotFound", lambda: machines.begin_create_or_update(GROUP, "m", self.machine("none")).result())
        for name in ("waits", "half"):
            refused("OperationNotAllowed", lambda: machines.begin_create_or_update(GROUP, "m", self.machine(name)).result())
        wanted = {**self.machine(data=["data", "up"]), "availability_set": {"id": made.id}, "tags": {"sr-machine": "m"}}
        machine = machines.begin_create_or_update(GROUP, "m", wanted).result()
        assert machine.provisioning_state == "Succeeded" and machine.vm_id, machine
        refused("ConflictingUserInput", lambda: machines.begin_create_or_update(GROUP, "n", self.machine()).result())
        codes = lambda: [status.code for status in machines.instance_view(GROUP, "m").statuses]
        assert codes() == ["ProvisioningState/succeeded", "PowerState/running"], codes()
        shown = machines.get(GROUP, "m", expand="instanceView")
        assert [disk.name for disk in shown.instance_view.disks] == ["os", "data", "up"], shown
        owner = self.client.disks.get(GROUP, "data")
        assert owner.managed_by == machine.id and owner.last_ownership_update_time, owner
        machines.begin_power_off(GROUP, "m").result()
        assert codes()[1] == "PowerState/stopped", codes()
        machines.begin_deallocate(GROUP, "m").result()
        assert codes()[1] == "PowerState/deallocated", codes()
        assert self.client.disks.get(GROUP, "data").disk_state == "Reserved"
        detach = {"data_disks_to_detach": [{"disk_id": self.disk("data")}]}
        machines.begin_attach_detach_data_disks(GROUP, "m", detach).result()
        assert [disk.name for disk in machines.get(GROUP, "m").storage_profile.data_disks] == ["up"]
        machines.begin_start(GROUP, "m").result()
        assert codes()[1] == "PowerState/running", codes()
        tagged = machines.begin_update(GROUP, "m", {"tags": {"sr-op": "x"}}).result()
        assert tagged.tags == {"sr-op": "x"}, tagged.tags
        assert [machine.name for machine in machines.list(GROUP)] == ["m"]
        used = {usage.name.value: usage.current_value for usage in self.client.usage.list(PLACE)}
        assert (used["cores"], used["virtualMachines"]) == (2, 1), used
        sizes = [sku.name for sku in self.client.resource_skus.list(filter=f"location eq '{PLACE}'")]
        assert "Standard_D2s_v5" in sizes, sizes

    def end(self):
        self.client.virtual_machines.begin_delete(GROUP, "m").result()
        refused("ResourceNotFound", lambda: self.client.virtual_machines.get(GROUP, "m"))
        self.network.network_interfaces.begin_delete(GROUP, "nic").result()
        self.client.availability_sets.delete(GROUP, "set")
        for name in ("base", "next"):
            self.client.snapshots.begin_delete(GROUP, name).result()
        for name in ("os", "data", "copy", "up", "waits"):
            self.client.disks.begin_delete(GROUP, name).result()
        refused("OperationNotAllowed", lambda: self.client.disks.begin_delete(GROUP, "half").result())
        assert [disk.name for disk in self.client.disks.list_by_resource_group(GROUP)] == ["half"]


def main(program, recording):
    folder = tempfile.mkdtemp()
    ready = os.path.join(folder, "ready")
    open(recording, "w").close()
    process = subprocess.Popen([program, "--ready-file", ready, "--record", recording], stdin=subprocess.PIPE)
    try:
        told = wait_for(ready, process)
        authority = os.path.join(folder, "authority.pem")
        with open(authority, "w") as file:
            file.write(told["authority"])
        os.environ["REQUESTS_CA_BUNDLE"] = authority
        options = {
            "base_url": told["url"], "polling_interval": 0,
            "credential_scopes": ["https://management.azure.com/.default"],
        }
        client = ComputeManagementClient(Credential(), told["subscription"], **options)
        network = NetworkManagementClient(Credential(), told["subscription"], **options)
        storage = os.path.join(folder, "storage.pem")
        with open(storage, "w") as file:
            file.write(told["storage"])
        flows, passed = Flows(told, client, network, storage), 0
        for flow in (flows.disks, flows.uploads, flows.snapshots, flows.interfaces, flows.machines, flows.end):
            flow()
            passed += 1
            print(f"ok {flow.__name__}")
        print(f"{passed} passed, 0 failed")
    finally:
        process.stdin.close()
        process.wait(timeout=10)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2])
