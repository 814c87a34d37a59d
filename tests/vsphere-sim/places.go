package main

import (
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// placeFault refuses datastores and networks that do not exist: VMware's simulator would end at them, not answer.
func (s *site) placeFault(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	var paths []string
	if spec.Files != nil && spec.Files.VmPathName != "" {
		paths = append(paths, spec.Files.VmPathName)
	}
	for i, change := range spec.DeviceChange {
		device := change.GetVirtualDeviceConfigSpec().Device
		if device == nil {
			return invalidDevice(i, "")
		}
		switch b := device.GetVirtualDevice().Backing.(type) {
		case *flat:
			if b.FileName != "" {
				paths = append(paths, b.FileName)
			}
		case *types.VirtualEthernetCardNetworkBackingInfo:
			if !s.hasNetwork(b.DeviceName) {
				return invalidDevice(i, "backing")
			}
		}
	}
	for _, path := range paths {
		var p object.DatastorePath
		if !p.FromString(path) {
			return &types.InvalidDatastorePath{DatastorePath: path}
		}
		if _, ok := s.datastore(p.Datastore); !ok {
			return &types.InvalidDatastorePath{InvalidDatastore: types.InvalidDatastore{Name: p.Datastore}, DatastorePath: path}
		}
	}
	return nil
}

func (s *site) hasNetwork(name string) bool {
	for _, entity := range s.registry.All("") {
		if networkKind(entity) != "" && nameOf(entity) == name {
			return true
		}
	}
	return false
}
