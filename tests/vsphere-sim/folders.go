package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// deviceLists keeps the configuration of machines that left the inventory, by the path of their .vmx: VMware's
// simulator writes nothing into that file.
type deviceLists struct {
	mu  sync.Mutex
	all map[string]types.VirtualMachineConfigSpec
}

func (d *deviceLists) keep(vm *simulator.VirtualMachine) {
	if vm.Config == nil || vm.Config.Files.VmPathName == "" {
		return
	}
	spec := types.VirtualMachineConfigSpec{
		Name: vm.Name, GuestId: vm.Config.GuestId, Version: vm.Config.Version, Firmware: vm.Config.Firmware,
		Uuid: vm.Config.Uuid, InstanceUuid: vm.Config.InstanceUuid, Annotation: vm.Config.Annotation,
		NumCPUs: vm.Config.Hardware.NumCPU, MemoryMB: int64(vm.Config.Hardware.MemoryMB),
		ChangeTrackingEnabled: vm.Config.ChangeTrackingEnabled, ExtraConfig: vm.Config.ExtraConfig,
		BootOptions: vm.Config.BootOptions, ManagedBy: vm.Config.ManagedBy,
	}
	for _, device := range vm.Config.Hardware.Device {
		// The rest is what every machine is created with.
		switch device.(type) {
		case types.BaseVirtualSCSIController, types.BaseVirtualSATAController, *types.VirtualNVMEController,
			*types.VirtualDisk, types.BaseVirtualEthernetCard, *types.VirtualCdrom:
			spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device,
			})
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[string]types.VirtualMachineConfigSpec)
	}
	d.all[vm.Config.Files.VmPathName] = spec
}

func (d *deviceLists) of(vmx string) (types.VirtualMachineConfigSpec, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	spec, ok := d.all[vmx]
	return spec, ok
}

// CreateVMTask refuses a name that is taken, and disks that somebody else has open.
func (f *folder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	req.Config.Name = escaped(req.Config.Name)
	fault := f.nameFault(req.Config.Name)
	if fault == nil {
		fault = f.site.placeFault(&req.Config)
	}
	if fault == nil {
		fault = f.site.attachFault(types.ManagedObjectReference{}, &req.Config)
	}
	if fault != nil {
		task := failed(ctx, f.Folder, "createVm", fault)
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task}}
	}
	if !strings.Contains(req.Config.Name, "%") {
		return f.Folder.CreateVMTask(ctx, req)
	}
	// VMware's simulator would escape the name again, and take each device twice.
	plain := *req
	plain.Config.Name = strings.ReplaceAll(req.Config.Name, "%", "_")
	task := simulator.CreateTask(f.Folder, "createVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		inner := f.Folder.CreateVMTask(ctx, &plain).(*methods.CreateVM_TaskBody).Res.Returnval
		made, err := f.site.await(object.NewTask(f.site.client, inner))
		if err != nil {
			return nil, faultOf(err)
		}
		vm := f.site.registry.Get(made.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
		f.site.update(vm, set("name", req.Config.Name))
		return made, nil
	})
	return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task.Run(ctx)}}
}

// nameFault: in vCenter a name is taken within its folder, on a host altogether; here it is always within the folder,
// since a host has only one.
func (f *folder) nameFault(name string) types.BaseMethodFault {
	if !f.site.dial.get().OneName {
		return nil
	}
	for _, child := range f.ChildEntity {
		if child.Type == "VirtualMachine" && f.site.open.name(child) == name {
			return &types.DuplicateName{Name: name, Object: child}
		}
	}
	return nil
}

// RegisterVMTask gives a machine that was in the inventory before its devices and identifiers back.
func (f *folder) RegisterVMTask(ctx *simulator.Context, req *types.RegisterVM_Task) soap.HasFault {
	s := f.site
	answer := func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.RegisterVM_TaskBody{Res: &types.RegisterVM_TaskResponse{Returnval: task}}
	}
	kept, known := s.devices.of(req.Path)
	local, err := s.resolve(req.Path)
	if err == nil {
		_, err = os.Stat(local)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return answer(failed(ctx, f.Folder, "registerVm", &types.NotFound{}))
	case err != nil:
		return answer(failed(ctx, f.Folder, "registerVm", &types.InvalidDatastorePath{DatastorePath: req.Path}))
	case !known:
		return f.Folder.RegisterVMTask(ctx, req)
	}
	name := escaped(req.Name)
	if name == "" {
		name = kept.Name
	}
	if fault := f.nameFault(name); fault != nil {
		return answer(failed(ctx, f.Folder, "registerVm", fault))
	}
	// VMware's simulator looks for a file of the machine's name, which may have changed since.
	again := *req
	again.Name = kept.Name
	if found, err := filepath.Glob(filepath.Join(filepath.Dir(local), "*.nvram")); err == nil && len(found) > 0 {
		again.Name = strings.TrimSuffix(filepath.Base(found[0]), ".nvram")
	}
	plain := f.Folder.RegisterVMTask(ctx, &again).(*methods.RegisterVM_TaskBody).Res.Returnval
	spec := kept
	spec.Name = name
	spec.DeviceChange = copies(kept.DeviceChange)
	return answer(simulator.CreateTask(f.Folder, "registerVirtualMachine", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		made, err := s.await(object.NewTask(s.client, plain))
		if err != nil {
			return nil, faultOf(err)
		}
		ref := made.(types.ManagedObjectReference)
		if err := s.finish(object.NewVirtualMachine(s.client, ref).Reconfigure(own(), spec)); err != nil {
			return nil, faultOf(err)
		}
		return ref, nil
	}).Run(ctx))
}

// copies are device changes whose devices may be written to.
func copies(changes []types.BaseVirtualDeviceConfigSpec) []types.BaseVirtualDeviceConfigSpec {
	var made []types.BaseVirtualDeviceConfigSpec
	for _, change := range changes {
		spec := *change.GetVirtualDeviceConfigSpec()
		if disk, ok := spec.Device.(*types.VirtualDisk); ok {
			next := *disk
			if b, ok := disk.Backing.(*flat); ok {
				backing := *b
				next.Backing = &backing
			}
			spec.Device = &next
		}
		made = append(made, &spec)
	}
	return made
}

// faultOf is VMware's fault in an error of the client's.
func faultOf(err error) types.BaseMethodFault {
	var held interface{ Fault() types.BaseMethodFault }
	if errors.As(err, &held) {
		return held.Fault()
	}
	if soap.IsSoapFault(err) {
		if fault, ok := soap.ToSoapFault(err).VimFault().(types.BaseMethodFault); ok {
			return fault
		}
	}
	return &types.SystemErrorFault{Reason: err.Error()}
}
