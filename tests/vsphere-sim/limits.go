package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// limitFault refuses what does not fit a controller: at most 4 SCSI controllers, their unit 7 is the controller's own.
func limitFault(vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	controllers, scsi := make(map[int32]types.BaseVirtualDevice), 0
	for _, device := range vm.Config.Hardware.Device {
		if _, ok := device.(types.BaseVirtualController); ok {
			controllers[device.GetVirtualDevice().Key] = device
		}
		if _, ok := device.(types.BaseVirtualSCSIController); ok {
			scsi++
		}
	}
	for i, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		device := c.Device.GetVirtualDevice()
		_, isSCSI := c.Device.(types.BaseVirtualSCSIController)
		switch {
		case isSCSI && c.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			scsi--
		case c.Operation != types.VirtualDeviceConfigSpecOperationAdd:
			continue
		case isSCSI:
			if scsi++; scsi > 4 {
				return &types.TooManyDevices{InvalidVmConfig: types.InvalidVmConfig{Property: deviceField(i, "")}}
			}
		}
		if _, ok := c.Device.(types.BaseVirtualController); ok {
			controllers[device.Key] = c.Device
		}
		if _, ok := c.Device.(*types.VirtualDisk); !ok || device.UnitNumber == nil {
			continue
		}
		controller, ok := controllers[device.ControllerKey]
		if !ok {
			return invalidDevice(i, "controllerKey")
		}
		if most := units(vm, controller); *device.UnitNumber < 0 || *device.UnitNumber >= most {
			return invalidDevice(i, "unitNumber")
		}
		if _, ok := controller.(types.BaseVirtualSCSIController); ok && *device.UnitNumber == 7 {
			return invalidDevice(i, "unitNumber")
		}
	}
	return nil
}

// units is the number of places at a controller.
func units(vm *simulator.VirtualMachine, controller types.BaseVirtualDevice) int32 {
	version, _ := strconv.Atoi(strings.TrimPrefix(vm.Config.Version, "vmx-"))
	switch controller.(type) {
	case *types.ParaVirtualSCSIController:
		if version >= 14 {
			return 64
		}
		return 16
	case types.BaseVirtualSCSIController:
		return 16
	case types.BaseVirtualSATAController:
		return 30
	case *types.VirtualNVMEController:
		if version >= 21 {
			return 64
		}
		return 15
	default:
		return 2
	}
}

func deviceField(i int, field string) string {
	return strings.TrimSuffix(fmt.Sprintf("virtualDeviceSpec[%d].device.%s", i, field), ".")
}

func invalidDevice(i int, field string) types.BaseMethodFault {
	return &types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: deviceField(i, field)}, DeviceIndex: int32(i)}
}

func (m *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	req.Spec.Name = escaped(req.Spec.Name)
	fault := m.site.placeFault(&req.Spec)
	if fault == nil {
		fault = limitFault(m.VirtualMachine, &req.Spec)
	}
	if fault == nil {
		fault = m.site.attachFault(m.Self, &req.Spec)
	}
	if fault == nil {
		fault = trackFault(m.VirtualMachine, &req.Spec)
	}
	if fault != nil {
		task := failed(ctx, m.VirtualMachine, "reconfigVm", fault)
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
	}
	m.site.sameDisks(&req.Spec)
	// The call holds the machine's lock, so the task that it makes is this one.
	m.site.versions.Store(m.Self, req.Spec.ChangeVersion)
	defer m.site.versions.Delete(m.Self)
	return m.VirtualMachine.ReconfigVMTask(ctx, req)
}

// versionFault refuses a change that was made up by an older configuration than the one that is there.
func versionFault(vm *simulator.VirtualMachine, made string) types.BaseMethodFault {
	if made == "" || made == vm.Config.ChangeVersion {
		return nil
	}
	return new(types.ConcurrentAccess)
}

// trackFault refuses tracking of a machine whose virtual hardware has none.
func trackFault(vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if spec.ChangeTrackingEnabled == nil || !*spec.ChangeTrackingEnabled || vm.Capability.ChangeTrackingSupported {
		return nil
	}
	return &types.InvalidArgument{InvalidProperty: "spec.changeTrackingEnabled"}
}
