"""Runs the flows of a failover and a way back against the program `fake-arm`, by Microsoft's own clients.

usage: client.py FAKE_ARM RECORDING
"""

import json
import os
import subprocess
import sys
import tempfile
import time

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


class Flows:
    def __init__(self, told, client, network):
        self.told, self.client, self.network = told, client, network

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
        upload = {"create_option": "Upload", "upload_size_bytes": (20 << 20) + 512}
        upload = {"location": PLACE, "creation_data": upload}
        assert disks.begin_create_or_update(GROUP, "up", upload).result().disk_state == "ReadyToUpload"
        access = {"access": "Write", "duration_in_seconds": 3600}
        assert "sig=" in disks.begin_grant_access(GROUP, "up", access).result().access_sas
        assert disks.get(GROUP, "up").disk_state == "ActiveUpload"
        refused("InvalidVhd", lambda: disks.begin_revoke_access(GROUP, "up").result())
        assert sorted(disk.name for disk in disks.list_by_resource_group(GROUP)) == ["data", "os", "up"]
        assert sorted(disk.name for disk in disks.list()) == ["data", "os", "up"]

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
        wanted = {**self.machine(data=["data"]), "availability_set": {"id": made.id}, "tags": {"sr-machine": "m"}}
        machine = machines.begin_create_or_update(GROUP, "m", wanted).result()
        assert machine.provisioning_state == "Succeeded" and machine.vm_id, machine
        refused("ConflictingUserInput", lambda: machines.begin_create_or_update(GROUP, "n", self.machine()).result())
        codes = lambda: [status.code for status in machines.instance_view(GROUP, "m").statuses]
        assert codes() == ["ProvisioningState/succeeded", "PowerState/running"], codes()
        shown = machines.get(GROUP, "m", expand="instanceView")
        assert [disk.name for disk in shown.instance_view.disks] == ["os", "data"], shown
        owner = self.client.disks.get(GROUP, "data")
        assert owner.managed_by == machine.id and owner.last_ownership_update_time, owner
        machines.begin_power_off(GROUP, "m").result()
        assert codes()[1] == "PowerState/stopped", codes()
        machines.begin_deallocate(GROUP, "m").result()
        assert codes()[1] == "PowerState/deallocated", codes()
        assert self.client.disks.get(GROUP, "data").disk_state == "Reserved"
        detach = {"data_disks_to_detach": [{"disk_id": self.disk("data")}]}
        machines.begin_attach_detach_data_disks(GROUP, "m", detach).result()
        assert machines.get(GROUP, "m").storage_profile.data_disks == []
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
        for name in ("os", "data", "copy"):
            self.client.disks.begin_delete(GROUP, name).result()
        refused("OperationNotAllowed", lambda: self.client.disks.begin_delete(GROUP, "up").result())
        assert [disk.name for disk in self.client.disks.list_by_resource_group(GROUP)] == ["up"]


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
        flows, passed = Flows(told, client, network), 0
        for flow in (flows.disks, flows.snapshots, flows.interfaces, flows.machines, flows.end):
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
