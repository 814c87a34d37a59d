package main

import (
	"os"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// holder is what one machine has open while it runs.
type holder struct {
	name    string
	running bool
	writes  map[string]bool   // files that it writes to, for itself alone
	reads   map[string]bool   // files below them, and disks that it only reads
	uuids   map[string]string // those of disks, by every file that is a state of one, also by those that only snapshots have
}

// openDisks knows which machine has which file. It is kept beside the inventory, so that one machine's lock is enough
// to look at all.
type openDisks struct {
	mu  sync.Mutex
	all map[types.ManagedObjectReference]holder
}

// record is called with the machine's lock, which guards its snapshots too.
func (o *openDisks) record(vm *simulator.VirtualMachine, snapshots []*simulator.VirtualMachineSnapshot) {
	h := holder{
		vm.Name, vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn, map[string]bool{}, map[string]bool{}, map[string]string{},
	}
	disks := disksOf(vm)
	for _, snapshot := range snapshots {
		disks = append(disks, disksIn(snapshot.Config.Hardware.Device)...)
	}
	for _, disk := range disks {
		for b := disk.Backing.(*flat); b != nil; b = b.Parent {
			h.uuids[b.FileName] = disk.Backing.(*flat).Uuid
		}
	}
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		if readOnly(b.DiskMode) {
			h.reads[b.FileName] = true
		} else {
			h.writes[b.FileName] = true
		}
		for b = b.Parent; b != nil; b = b.Parent {
			h.reads[b.FileName] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = make(map[types.ManagedObjectReference]holder)
	}
	o.all[vm.Self] = h
}

func readOnly(mode string) bool {
	return mode == string(types.VirtualDiskModeIndependent_nonpersistent) || mode == string(types.VirtualDiskModeNonpersistent)
}

func (o *openDisks) forget(ref types.ManagedObjectReference) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, ref)
}

func (o *openDisks) named(name string) (types.ManagedObjectReference, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref, h := range o.all {
		if h.name == escaped(name) {
			return ref, true
		}
	}
	return types.ManagedObjectReference{}, false
}

func (o *openDisks) name(ref types.ManagedObjectReference) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[ref].name
}

// uuid is that of the disk which a file is a state of, where a machine or a snapshot has it.
func (o *openDisks) uuid(file string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range o.all {
		if uuid := h.uuids[file]; uuid != "" {
			return uuid
		}
	}
	return ""
}

// conflict finds another running machine with which this use of a file cannot go together.
func (o *openDisks) conflict(me types.ManagedObjectReference, file string, writing bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref, h := range o.all {
		if ref != me && h.running && (h.writes[file] || writing && h.reads[file]) {
			return true
		}
	}
	return false
}

// elsewhere says whether any of the files belongs to another machine too, running or not.
func (o *openDisks) elsewhere(me types.ManagedObjectReference, files ...string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref, h := range o.all {
		for _, file := range files {
			if ref != me && (h.writes[file] || h.reads[file]) {
				return true
			}
		}
	}
	return false
}

// running says whether a running machine has the file open.
func (o *openDisks) running(file string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range o.all {
		if h.running && (h.writes[file] || h.reads[file]) {
			return true
		}
	}
	return false
}

// attachFault refuses a disk that somebody else has open.
func (s *site) attachFault(me types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if !s.dial.get().DiskLocks {
		return nil
	}
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, ok := c.Device.(*types.VirtualDisk)
		if !ok || c.Operation != types.VirtualDeviceConfigSpecOperationAdd || c.FileOperation != "" {
			continue
		}
		if b, ok := disk.Backing.(*flat); ok && s.open.conflict(me, b.FileName, !readOnly(b.DiskMode)) {
			return &types.FileLocked{FileFault: types.FileFault{File: b.FileName}}
		}
	}
	return nil
}

// sameDisks lets a file that is attached be the disk that it belongs to: all states of a disk have one uuid. VMware's
// simulator would make up another for each file.
func (s *site) sameDisks(spec *types.VirtualMachineConfigSpec) {
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, ok := c.Device.(*types.VirtualDisk)
		if !ok || c.Operation != types.VirtualDeviceConfigSpecOperationAdd || c.FileOperation != "" {
			continue
		}
		if b, ok := disk.Backing.(*flat); ok && b.Uuid == "" {
			b.Uuid = s.open.uuid(b.FileName)
		}
	}
}

// startFault is why a machine cannot start: a disk is gone, or somebody else has it.
func (s *site) startFault(vm *simulator.VirtualMachine) types.BaseMethodFault {
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		bytes, _, err := s.descriptor(b.FileName)
		if err == nil {
			_, err = os.Stat(bytes)
		}
		if err != nil {
			return fileFault(b.FileName, err)
		}
		if s.dial.get().DiskLocks && s.open.conflict(vm.Self, b.FileName, !readOnly(b.DiskMode)) {
			return &types.FileLocked{FileFault: types.FileFault{File: b.FileName}}
		}
	}
	return nil
}

func (m *machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	if fault := m.site.startFault(m.VirtualMachine); fault != nil {
		task := failed(ctx, m.VirtualMachine, "powerOn", fault)
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.PowerOnVMTask(ctx, req)
}

// diskManager deletes no disk that a running machine has open.
type diskManager struct {
	*simulator.VirtualDiskManager
	site *site
}

func (d *diskManager) DeleteVirtualDiskTask(ctx *simulator.Context, req *types.DeleteVirtualDisk_Task) soap.HasFault {
	if d.site.dial.get().DiskLocks && d.site.open.running(req.Name) {
		task := failed(ctx, d.VirtualDiskManager, "deleteVirtualDisk", &types.FileLocked{FileFault: types.FileFault{File: req.Name}})
		return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
	}
	return d.VirtualDiskManager.DeleteVirtualDiskTask(ctx, req)
}
