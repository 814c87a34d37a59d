package main

import (
	"fmt"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// What somebody else, a guest or an accident does to a machine.

type ofMachine struct {
	Machine string `json:"machine"` // name or reference
}

func (s *site) remote(name string) (*simulator.VirtualMachine, *object.VirtualMachine, error) {
	vm, err := s.machine(name)
	if err != nil {
		return nil, nil, err
	}
	return vm, object.NewVirtualMachine(s.client, vm.Self), nil
}

func (s *site) tools(c struct {
	Machine string
	Running bool
}) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	s.guests.setTools(vm.Self, c.Running)
	s.locked(vm, func() { s.showTools(vm) })
	return nil, nil
}

func (s *site) power(c struct{ Machine, Action string }) (any, error) {
	_, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	switch c.Action {
	case "on":
		return nil, s.finish(vm.PowerOn(own()))
	case "off":
		return nil, s.finish(vm.PowerOff(own()))
	case "reset":
		return nil, s.finish(vm.Reset(own()))
	}
	return nil, fmt.Errorf("action %q: it is on, off or reset", c.Action)
}

// powerLoss stops a machine at once, without a task, as a failing host does.
func (s *site) powerLoss(c ofMachine) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	s.locked(vm, func() {
		s.powerState(vm, types.VirtualMachinePowerStatePoweredOff)
		if s.dial.get().ResetOnPowerLoss {
			err = s.resetTracking(vm)
		}
	})
	return nil, err
}

// trackingReset begins new change UUIDs, as when a .ctk file is lost.
func (s *site) trackingReset(c ofMachine) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	s.locked(vm, func() { err = s.resetTracking(vm) })
	return nil, err
}

func (s *site) foreignSnapshot(c struct{ Machine, Name string }) (any, error) {
	_, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	return nil, s.finish(vm.CreateSnapshot(own(), c.Name, "made by somebody else", false, false))
}

func (s *site) snapshotRemove(c struct{ Machine, Name string }) (any, error) {
	_, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	merge := true
	return nil, s.finish(vm.RemoveSnapshot(own(), c.Name, false, &merge))
}

func (s *site) machineCreate(m machineSpec) (any, error) {
	places, err := s.places(own())
	if err != nil {
		return nil, err
	}
	at := places[0]
	if m.Cluster {
		at = places[len(places)-1]
	}
	vm, err := s.create(own(), at, m)
	if err != nil {
		return nil, err
	}
	return map[string]string{"machine": vm.Reference().Value}, nil
}

func (s *site) machineDestroy(c ofMachine) (any, error) {
	machine, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	s.locked(machine, func() {
		if machine.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
			s.powerState(machine, types.VirtualMachinePowerStatePoweredOff)
		}
	})
	return nil, s.finish(vm.Destroy(own()))
}
