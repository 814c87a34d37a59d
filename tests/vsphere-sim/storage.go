package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// storageManager is Storage DRS with the overrides for single machines, which VMware's simulator accepts and forgets.
type storageManager struct {
	*simulator.StorageResourceManager
	site *site
}

func (m *storageManager) ConfigureStorageDrsForPodTask(ctx *simulator.Context, req *types.ConfigureStorageDrsForPod_Task) soap.HasFault {
	s := m.site
	if pod, ok := s.registry.Get(req.Pod).(*simulator.StoragePod); ok && pod.PodStorageDrsEntry != nil {
		s.locked(pod, func() {
			entry := *pod.PodStorageDrsEntry
			for _, change := range req.Spec.VmConfigSpec {
				entry.StorageDrsConfig.VmConfig = override(entry.StorageDrsConfig.VmConfig, change)
			}
			s.update(pod, set("podStorageDrsEntry", &entry))
		})
	}
	return m.StorageResourceManager.ConfigureStorageDrsForPodTask(ctx, req)
}

// override keeps one entry per machine.
func override(all []types.StorageDrsVmConfigInfo, change types.StorageDrsVmConfigSpec) []types.StorageDrsVmConfigInfo {
	var vm *types.ManagedObjectReference
	if change.Info != nil {
		vm = change.Info.Vm
	} else if key, ok := change.RemoveKey.(types.ManagedObjectReference); ok {
		vm = &key
	}
	if vm == nil {
		return all
	}
	var next []types.StorageDrsVmConfigInfo
	for _, one := range all {
		if one.Vm == nil || *one.Vm != *vm {
			next = append(next, one)
		}
	}
	if change.Operation != types.ArrayUpdateOperationRemove && change.Info != nil {
		next = append(next, *change.Info)
	}
	return next
}
