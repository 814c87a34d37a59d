package main

import (
	"net/http"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// chosenMachine is the one in the path, or an answer that there is none.
func (s *site) chosenMachine(a reply) *simulator.VirtualMachine {
	ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: a.r.PathValue("vm")}
	vm, ok := s.registry.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		a.fail(http.StatusNotFound, "NOT_FOUND", "there is no virtual machine "+ref.Value)
	}
	return vm
}

func (s *site) apiMachine(a reply) {
	vm := s.chosenMachine(a)
	if vm == nil {
		return
	}
	var info map[string]any
	s.locked(vm, func() { info = machineInfo(vm, a.nested) })
	a.value(http.StatusOK, info)
}

func (s *site) apiPowerState(a reply) {
	vm := s.chosenMachine(a)
	if vm == nil {
		return
	}
	var state string
	s.locked(vm, func() { state = powerState(vm) })
	info := map[string]any{"state": state}
	if state == "POWERED_OFF" {
		info["clean_power_off"] = true
	}
	a.value(http.StatusOK, info)
}

func (s *site) apiPower(a reply) {
	vm := s.chosenMachine(a)
	if vm == nil {
		return
	}
	action := a.r.PathValue("action")
	if action == "" {
		action = a.r.URL.Query().Get("action")
	}
	client := object.NewVirtualMachine(s.client, vm.Self)
	run := map[string]func() (*object.Task, error){
		"start":   func() (*object.Task, error) { return client.PowerOn(own()) },
		"stop":    func() (*object.Task, error) { return client.PowerOff(own()) },
		"reset":   func() (*object.Task, error) { return client.Reset(own()) },
		"suspend": func() (*object.Task, error) { return client.Suspend(own()) },
	}[action]
	if run == nil {
		a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "action is start, stop, reset or suspend")
		return
	}
	s.answerPower(a, s.finish(run()))
}

func (s *site) answerPower(a reply, err error) {
	if err == nil {
		a.done()
		return
	}
	switch fault := faultOf(err).(type) {
	case *types.InvalidPowerState:
		if fault.RequestedState == fault.ExistingState {
			a.fail(http.StatusBadRequest, "ALREADY_IN_DESIRED_STATE", "the machine is in that state")
		} else {
			a.fail(http.StatusBadRequest, "NOT_ALLOWED_IN_CURRENT_STATE", "the machine's state does not allow it")
		}
	case *types.ToolsUnavailable:
		a.fail(http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", "VMware Tools are not running")
	default:
		a.fail(http.StatusInternalServerError, "ERROR", err.Error())
	}
}

func (s *site) apiGuestState(a reply) {
	vm := s.chosenMachine(a)
	if vm == nil {
		return
	}
	state, ready := "NOT_RUNNING", false
	s.locked(vm, func() {
		if ready = s.guests.hasTools(vm); ready {
			state = "RUNNING"
		}
	})
	a.value(http.StatusOK, map[string]any{"state": state, "operations_ready": ready})
}

func (s *site) apiGuestPower(a reply) {
	vm := s.chosenMachine(a)
	if vm == nil {
		return
	}
	client := object.NewVirtualMachine(s.client, vm.Self)
	switch a.r.URL.Query().Get("action") {
	case "shutdown":
		s.answerPower(a, client.ShutdownGuest(own()))
	case "reboot":
		s.answerPower(a, client.RebootGuest(own()))
	default:
		a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "action is shutdown or reboot")
	}
}
