package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func plainRow(key string) func(mo.Entity) map[string]any {
	return func(e mo.Entity) map[string]any {
		return map[string]any{key: e.Reference().Value, "name": nameOf(e)}
	}
}

func machineRow(e mo.Entity) map[string]any {
	vm := e.(*simulator.VirtualMachine)
	return map[string]any{
		"vm": vm.Self.Value, "name": vm.Name, "power_state": powerState(vm),
		"cpu_count": vm.Config.Hardware.NumCPU, "memory_size_MiB": vm.Config.Hardware.MemoryMB,
	}
}

func powerState(vm *simulator.VirtualMachine) string {
	switch vm.Runtime.PowerState {
	case types.VirtualMachinePowerStatePoweredOn:
		return "POWERED_ON"
	case types.VirtualMachinePowerStateSuspended:
		return "SUSPENDED"
	}
	return "POWERED_OFF"
}

func hostRow(e mo.Entity) map[string]any {
	host := e.(*simulator.HostSystem)
	row := map[string]any{"host": host.Self.Value, "name": host.Name, "connection_state": connectionState(host)}
	if host.Runtime.ConnectionState == types.HostSystemConnectionStateConnected {
		row["power_state"] = "POWERED_ON"
	}
	return row
}

func connectionState(host *simulator.HostSystem) string {
	switch host.Runtime.ConnectionState {
	case types.HostSystemConnectionStateNotResponding:
		return "NOT_RESPONDING"
	case types.HostSystemConnectionStateDisconnected:
		return "DISCONNECTED"
	}
	return "CONNECTED"
}

func datastoreRow(e mo.Entity) map[string]any {
	d := e.(*simulator.Datastore)
	return map[string]any{
		"datastore": d.Self.Value, "name": d.Name, "type": "VMFS",
		"free_space": d.Summary.FreeSpace, "capacity": d.Summary.Capacity,
	}
}

func clusterRow(e mo.Entity) map[string]any {
	c := e.(*simulator.ClusterComputeResource)
	ha, drs := false, false
	if config, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
		ha = config.DasConfig.Enabled != nil && *config.DasConfig.Enabled
		drs = config.DrsConfig.Enabled != nil && *config.DrsConfig.Enabled
	}
	return map[string]any{"cluster": c.Self.Value, "name": c.Name, "ha_enabled": ha, "drs_enabled": drs}
}

func folderRow(e mo.Entity) map[string]any {
	return map[string]any{"folder": e.Reference().Value, "name": nameOf(e), "type": folderType(e)}
}

// folderType is what the folder is for, by the types of its children.
func folderType(e mo.Entity) string {
	f, ok := e.(*simulator.Folder)
	if !ok {
		return ""
	}
	for kind, name := range map[string]string{
		"Datacenter": "DATACENTER", "VirtualMachine": "VIRTUAL_MACHINE", "ComputeResource": "HOST",
		"Datastore": "DATASTORE", "Network": "NETWORK",
	} {
		if slices.Contains(f.ChildType, kind) {
			return name
		}
	}
	return "DATACENTER"
}

func networkRow(e mo.Entity) map[string]any {
	return map[string]any{"network": e.Reference().Value, "name": nameOf(e), "type": networkKind(e)}
}

func networkKind(e mo.Entity) string {
	switch e.(type) {
	case *mo.Network:
		return "STANDARD_PORTGROUP"
	case *mo.OpaqueNetwork:
		return "OPAQUE_NETWORK"
	case *simulator.DistributedVirtualPortgroup:
		return "DISTRIBUTED_PORTGROUP"
	}
	return ""
}

// machineInfo is GET /vcenter/vm/{vm}.
func machineInfo(vm *simulator.VirtualMachine, nested bool) map[string]any {
	disks, cards := make(map[string]any), make(map[string]any)
	for _, device := range vm.Config.Hardware.Device {
		key := fmt.Sprint(device.GetVirtualDevice().Key)
		switch d := device.(type) {
		case *types.VirtualDisk:
			disks[key] = diskInfo(vm, d)
		case types.BaseVirtualEthernetCard:
			cards[key] = cardInfo(d)
		}
	}
	return map[string]any{
		"name": vm.Name, "power_state": powerState(vm), "guest_OS": strings.ToUpper(vm.Config.GuestId),
		"identity":             map[string]any{"name": vm.Name, "bios_uuid": vm.Config.Uuid, "instance_uuid": vm.Config.InstanceUuid},
		"hardware":             map[string]any{"version": strings.ToUpper(strings.ReplaceAll(vm.Config.Version, "-", "_")), "upgrade_policy": "NEVER", "upgrade_status": "NONE"},
		"cpu":                  map[string]any{"count": vm.Config.Hardware.NumCPU, "cores_per_socket": 1, "hot_add_enabled": false, "hot_remove_enabled": false},
		"memory":               map[string]any{"size_MiB": vm.Config.Hardware.MemoryMB, "hot_add_enabled": false},
		"boot":                 map[string]any{"type": strings.ToUpper(vm.Config.Firmware), "delay": 0, "retry": false, "retry_delay": 0, "enter_setup_mode": false},
		"instant_clone_frozen": false,
		"disks":                keyed(disks, nested), "nics": keyed(cards, nested),
		"boot_devices": []any{}, "cdroms": keyed(nil, nested), "floppies": keyed(nil, nested),
		"parallel_ports": keyed(nil, nested), "serial_ports": keyed(nil, nested),
		"sata_adapters": keyed(nil, nested), "scsi_adapters": keyed(nil, nested),
	}
}

// keyed is a map below /api, and a list of keys and values below /rest.
func keyed(m map[string]any, nested bool) any {
	if !nested {
		if m == nil {
			m = map[string]any{}
		}
		return m
	}
	pairs := []any{}
	for key, value := range m {
		pairs = append(pairs, map[string]any{"key": key, "value": value})
	}
	return pairs
}

func diskInfo(vm *simulator.VirtualMachine, d *types.VirtualDisk) map[string]any {
	info := map[string]any{"label": labelOf(d.DeviceInfo), "capacity": d.CapacityInBytes}
	if b, ok := d.Backing.(*flat); ok {
		info["backing"] = map[string]any{"type": "VMDK_FILE", "vmdk_file": b.FileName}
	}
	unit := int32(0)
	if d.UnitNumber != nil {
		unit = *d.UnitNumber
	}
	for _, device := range vm.Config.Hardware.Device {
		if device.GetVirtualDevice().Key != d.ControllerKey {
			continue
		}
		switch c := device.(type) {
		case types.BaseVirtualSCSIController:
			info["type"], info["scsi"] = "SCSI", map[string]any{"bus": c.GetVirtualSCSIController().BusNumber, "unit": unit}
		case types.BaseVirtualSATAController:
			info["type"], info["sata"] = "SATA", map[string]any{"bus": c.GetVirtualSATAController().BusNumber, "unit": unit}
		case *types.VirtualNVMEController:
			info["type"], info["nvme"] = "NVME", map[string]any{"bus": c.BusNumber, "unit": unit}
		case *types.VirtualIDEController:
			info["type"], info["ide"] = "IDE", map[string]any{"primary": c.BusNumber == 0, "master": unit == 0}
		}
	}
	return info
}

func cardInfo(card types.BaseVirtualEthernetCard) map[string]any {
	c := card.GetVirtualEthernetCard()
	kind := strings.ToUpper(strings.TrimPrefix(fmt.Sprintf("%T", card), "*types.Virtual"))
	backing := map[string]any{}
	switch b := c.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		backing["type"], backing["network_name"] = "STANDARD_PORTGROUP", b.DeviceName
		if b.Network != nil {
			backing["network"] = b.Network.Value
		}
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		backing["type"], backing["network"] = "DISTRIBUTED_PORTGROUP", b.Port.PortgroupKey
	}
	state := "NOT_CONNECTED"
	if c.Connectable != nil && c.Connectable.Connected {
		state = "CONNECTED"
	}
	return map[string]any{
		"label": labelOf(c.DeviceInfo), "type": kind, "mac_address": c.MacAddress, "mac_type": "GENERATED", "state": state,
		"start_connected": true, "allow_guest_control": true, "wake_on_lan_enabled": false, "backing": backing,
	}
}

func labelOf(d types.BaseDescription) string {
	if d == nil {
		return ""
	}
	return d.GetDescription().Label
}
