package main

import (
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// guests knows each machine's tools, and how often it was started or stopped: a shutdown that was asked for before
// does not stop a machine that was started since.
type guests struct {
	mu      sync.Mutex
	without map[types.ManagedObjectReference]bool
	turns   map[types.ManagedObjectReference]int
}

func (g *guests) powerChanged(vm *simulator.VirtualMachine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.turns == nil {
		g.turns = make(map[types.ManagedObjectReference]int)
	}
	g.turns[vm.Self]++
}

func (g *guests) turn(ref types.ManagedObjectReference) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.turns[ref]
}

func (g *guests) setTools(ref types.ManagedObjectReference, running bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.without == nil {
		g.without = make(map[types.ManagedObjectReference]bool)
	}
	g.without[ref] = !running
}

func (g *guests) forget(ref types.ManagedObjectReference) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.without, ref)
	delete(g.turns, ref)
}

func (g *guests) hasTools(vm *simulator.VirtualMachine) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.without[vm.Self] && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
}

// showTools puts the tools' state where a client reads it.
func (s *site) showTools(vm *simulator.VirtualMachine) {
	if vm.Guest == nil || vm.Summary.Guest == nil {
		return
	}
	status, running := types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	if s.guests.hasTools(vm) {
		status, running = types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineToolsRunningStatusGuestToolsRunning
	}
	summary := *vm.Summary.Guest
	summary.ToolsStatus, summary.ToolsRunningStatus = status, string(running)
	s.update(vm, set("guest.toolsStatus", status), set("guest.toolsRunningStatus", string(running)), set("summary.guest", &summary))
}

// quiesceFault is the end of a quiesced snapshot of a running machine without tools.
func (s *site) quiesceFault(vm *simulator.VirtualMachine, quiesce bool) types.BaseMethodFault {
	on := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	if !quiesce || !on || s.guests.hasTools(vm) || !s.dial.get().QuiesceNeedsTools {
		return nil
	}
	return &types.ApplicationQuiesceFault{}
}

// ShutdownGuest needs tools, and takes as long as the settings say.
func (m *machine) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	s, vm, d := m.site, m.VirtualMachine, m.site.dial.get()
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && !s.guests.hasTools(vm) {
		return &methods.ShutdownGuestBody{Fault_: simulator.Fault("", &types.ToolsUnavailable{})}
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || !d.ShutdownNever && d.ShutdownMillis == 0 {
		return vm.ShutdownGuest(ctx, req)
	}
	if !d.ShutdownNever {
		turn := s.guests.turn(vm.Self)
		go s.shutDownLater(vm, turn, time.Duration(d.ShutdownMillis)*time.Millisecond)
	}
	return &methods.ShutdownGuestBody{Res: new(types.ShutdownGuestResponse)}
}

func (s *site) shutDownLater(vm *simulator.VirtualMachine, turn int, after time.Duration) {
	select {
	case <-time.After(after):
	case <-s.ended:
		return
	}
	s.locked(vm, func() {
		if s.guests.turn(vm.Self) == turn {
			s.powerState(vm, types.VirtualMachinePowerStatePoweredOff)
		}
	})
}

func (m *machine) RebootGuest(ctx *simulator.Context, req *types.RebootGuest) soap.HasFault {
	if m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && !m.site.guests.hasTools(m.VirtualMachine) {
		return &methods.RebootGuestBody{Fault_: simulator.Fault("", &types.ToolsUnavailable{})}
	}
	return m.VirtualMachine.RebootGuest(ctx, req)
}
