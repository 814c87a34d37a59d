package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// snapshotTaken freezes the disks around the taking of a snapshot.
func (s *site) snapshotTaken(vm *simulator.VirtualMachine, take func() (types.AnyType, types.BaseMethodFault)) (types.AnyType, types.BaseMethodFault) {
	if err := s.closeEpochs(vm); err != nil {
		return nil, fileFault(vm.Config.Files.VmPathName, err)
	}
	// VMware's simulator copies the configuration now, and with it the names of the files that are frozen.
	result, fault := take()
	if fault != nil {
		return nil, fault
	}
	for _, disk := range disksOf(vm) {
		if independent(disk) {
			continue
		}
		if err := s.extend(vm, disk, disk.Backing.(*flat)); err != nil {
			return nil, fileFault(disk.Backing.(*flat).FileName, err)
		}
	}
	// The live disks are in the next epoch; the snapshot just taken is not one from before.
	if err := s.stun(vm, len(s.snapshotsOf(vm.Self)) > 1); err != nil {
		return nil, fileFault(vm.Config.Files.VmPathName, err)
	}
	return result, nil
}

// onlyStates lets the removal of a snapshot delete its .vmsn alone. VMware's simulator deletes the file that has a number, and
// gives the numbers anew whenever it lists the files: sooner or later that file is a disk's.
func (s *site) onlyStates(vm *simulator.VirtualMachine) {
	if vm.LayoutEx == nil {
		return
	}
	states := map[int32]bool{}
	for _, file := range vm.LayoutEx.File {
		states[file.Key] = strings.HasSuffix(file.Name, ".vmsn")
	}
	for i := range vm.LayoutEx.Snapshot {
		one := &vm.LayoutEx.Snapshot[i]
		if !states[one.DataKey] {
			one.DataKey = -1
		}
		if !states[one.MemoryKey] {
			one.MemoryKey = -1
		}
	}
}

// snapshotsRemoved merges what is no longer frozen, and deletes what was and belongs to nobody.
func (s *site) snapshotsRemoved(vm *simulator.VirtualMachine, before *links) types.BaseMethodFault {
	// VMware's simulator leaves the children of a removed snapshot behind.
	for _, snapshot := range s.snapshotsOf(vm.Self) {
		if vm.Snapshot == nil || !inTree(vm.Snapshot.RootSnapshotList, snapshot.Self) {
			s.registry.Remove(s.ctx(), snapshot.Self)
		}
	}
	if err := s.stun(vm, true); err != nil {
		return fileFault(vm.Config.Files.VmPathName, err)
	}
	keep := s.kept.take(vm.Self.Value)
	if keep || s.dial.get().KeepDeltas {
		s.needConsolidation(vm, true)
		return nil
	}
	return s.consolidated(vm, before)
}

// consolidated merges, deletes the leaves that belong to nobody, and says whether something is left.
func (s *site) consolidated(vm *simulator.VirtualMachine, before *links) types.BaseMethodFault {
	if before != nil {
		for removed := true; removed; {
			removed = false
			after := s.links(vm)
			for file := range before.parent {
				if after.parent[file] == "" && !after.needed[file] && len(after.children[file]) == 0 {
					if err := s.drop(file); err != nil {
						return fileFault(file, err)
					}
					delete(before.parent, file)
					removed = true
				}
			}
		}
	}
	left, err := s.consolidate(vm)
	if err != nil {
		return fileFault(vm.Config.Files.VmPathName, err)
	}
	s.needConsolidation(vm, left != "")
	return nil
}

func (s *site) needConsolidation(vm *simulator.VirtualMachine, needed bool) {
	s.update(vm, set("runtime.consolidationNeeded", needed), set("summary.runtime.consolidationNeeded", needed))
}

func inTree(tree []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference) bool {
	for _, node := range tree {
		if node.Snapshot == ref || inTree(node.ChildSnapshotList, ref) {
			return true
		}
	}
	return false
}

func (m *machine) ConsolidateVMDisksTask(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	vm, s := m.VirtualMachine, m.site
	task := simulator.CreateTask(vm, "consolidateVMDisks", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if fault := s.consolidated(vm, nil); fault != nil {
			return nil, fault
		}
		if vm.Runtime.ConsolidationNeeded {
			return nil, &types.FileLocked{FileFault: types.FileFault{File: vm.Config.Files.VmPathName}}
		}
		return nil, nil
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task.Run(ctx)}}
}

func (m *machine) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	if fault := m.site.quiesceFault(m.VirtualMachine, req.Quiesce && !req.Memory); fault != nil {
		task := failed(ctx, m.VirtualMachine, "createSnapshotEx", fault)
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.CreateSnapshotTask(ctx, req)
}

func (m *machine) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	if fault := m.site.quiesceFault(m.VirtualMachine, req.QuiesceSpec != nil); fault != nil {
		task := failed(ctx, m.VirtualMachine, "createSnapshotEx", fault)
		return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.CreateSnapshotExTask(ctx, req)
}

func (m *machine) RevertToCurrentSnapshotTask(ctx *simulator.Context, req *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	vm := m.VirtualMachine
	if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil {
		return &methods.RevertToCurrentSnapshot_TaskBody{Fault_: simulator.Fault("", &types.NotFound{})}
	}
	current := m.site.snapshot(*vm.Snapshot.CurrentSnapshot)
	task := simulator.CreateTask(vm, "revertToSnapshot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, m.site.revert(vm, current)
	})
	return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{Returnval: task.Run(ctx)}}
}

// frozen is a snapshot with what VMware's simulator lacks.
type frozen struct {
	*simulator.VirtualMachineSnapshot
	site    *site
	session *simulator.Registry
}

func (s *site) snapshot(ref types.ManagedObjectReference) *simulator.VirtualMachineSnapshot {
	snapshot, _ := s.registry.Get(ref).(*simulator.VirtualMachineSnapshot)
	return snapshot
}

func (f *frozen) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	if req.Consolidate != nil && !*req.Consolidate {
		f.site.kept.add(f.Vm.Value)
	}
	return f.VirtualMachineSnapshot.RemoveSnapshotTask(ctx, req)
}

func (f *frozen) RevertToSnapshotTask(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	snapshot := f.VirtualMachineSnapshot
	vm := f.site.registry.Get(f.Vm).(*simulator.VirtualMachine)
	task := simulator.CreateTask(vm, "revertToSnapshot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, f.site.revert(vm, snapshot)
	})
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: task.Run(ctx)}}
}

// revert gives the machine a new delta over what the snapshot froze. As no memory is kept, it is off afterwards.
func (s *site) revert(vm *simulator.VirtualMachine, to *simulator.VirtualMachineSnapshot) types.BaseMethodFault {
	before := s.links(vm)
	var disks []types.BaseVirtualDevice
	for _, device := range vm.Config.Hardware.Device {
		if disk, ok := device.(*types.VirtualDisk); !ok || independent(disk) {
			disks = append(disks, device)
		}
	}
	for _, disk := range disksIn(to.Config.Hardware.Device) {
		if !independent(disk) {
			disks = append(disks, disk)
		}
	}
	// With the disks the settings go back, also those that somebody else put there.
	s.update(vm, set("config.hardware.device", disks), set("snapshot.currentSnapshot", to.Self),
		set("config.extraConfig", slices.Clone(to.Config.ExtraConfig)),
		set("config.changeVersion", strconv.FormatInt(time.Now().UnixNano(), 10)))
	for _, disk := range disksIn(to.Config.Hardware.Device) {
		if independent(disk) {
			continue
		}
		if err := s.extend(vm, disk, disk.Backing.(*flat)); err != nil {
			return fileFault(disk.Backing.(*flat).FileName, err)
		}
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		s.powerState(vm, types.VirtualMachinePowerStatePoweredOff)
	}
	if err := s.trackingReverted(vm); err != nil {
		return fileFault(vm.Config.Files.VmPathName, err)
	}
	return s.consolidated(vm, before)
}

func (s *site) powerState(vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) {
	s.update(vm, set("runtime.powerState", state), set("summary.runtime.powerState", state))
}
