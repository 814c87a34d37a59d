package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// silentHosts are the hosts that do not answer their vCenter.
type silentHosts struct {
	mu  sync.Mutex
	all map[types.ManagedObjectReference]bool
}

func (h *silentHosts) set(ref types.ManagedObjectReference, silent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = make(map[types.ManagedObjectReference]bool)
	}
	h.all[ref] = silent
}

func (h *silentHosts) has(ref types.ManagedObjectReference) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[ref]
}

// fault refuses what a vCenter would have to ask the host for.
func (h *silentHosts) fault(s *site, m *simulator.Method) types.BaseMethodFault {
	vm, ok := s.machineOf(m.This)
	if !ok || vm.Runtime.Host == nil || !h.has(*vm.Runtime.Host) {
		return nil
	}
	return &types.HostNotConnected{}
}

// hostState makes a host answer or not: it, and each machine on it, says so.
func (s *site) hostState(name, state string) error {
	if s.options.mode == "esxi" {
		return fmt.Errorf("host: on an ESXi host the host is the server itself; use http-fault")
	}
	connection := types.HostSystemConnectionState(state)
	machines := types.VirtualMachineConnectionStateDisconnected
	switch connection {
	case types.HostSystemConnectionStateConnected:
		machines = types.VirtualMachineConnectionStateConnected
	case types.HostSystemConnectionStateNotResponding, types.HostSystemConnectionStateDisconnected:
	default:
		return fmt.Errorf("state %q: it is connected, notResponding or disconnected", state)
	}
	for _, entity := range s.registry.All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		if host.Name != name {
			continue
		}
		s.hosts.set(host.Self, connection != types.HostSystemConnectionStateConnected)
		var on []types.ManagedObjectReference
		s.locked(host, func() {
			s.update(host, set("runtime.connectionState", connection), set("summary.runtime.connectionState", connection))
			on = append(on, host.Vm...)
		})
		for _, ref := range on {
			if vm, ok := s.registry.Get(ref).(*simulator.VirtualMachine); ok {
				s.locked(vm, func() {
					s.update(vm, set("runtime.connectionState", machines), set("summary.runtime.connectionState", machines))
				})
			}
		}
		return nil
	}
	var names []string
	for _, entity := range s.registry.All("HostSystem") {
		names = append(names, entity.Entity().Name)
	}
	return fmt.Errorf("host %q: there are %s", name, strings.Join(names, ", "))
}

// machineOf is the machine that a call is about: itself, or a snapshot's.
func (s *site) machineOf(ref types.ManagedObjectReference) (*simulator.VirtualMachine, bool) {
	if snapshot, ok := s.registry.Get(ref).(*simulator.VirtualMachineSnapshot); ok {
		ref = snapshot.Vm
	}
	vm, ok := s.registry.Get(ref).(*simulator.VirtualMachine)
	return vm, ok
}
