package main

import (
	"log"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// watcher sees every object that comes, changes or goes. Whoever calls it holds the object's lock.
type watcher struct{ site *site }

func (w *watcher) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Watcher", Value: "watcher"}
}

// PutObject takes a new task in hand before it runs.
func (w *watcher) PutObject(_ *simulator.Context, object mo.Reference) {
	if t, ok := object.(*simulator.Task); ok {
		version, _ := w.site.versions.Load(*t.Info.Entity)
		made, _ := version.(string)
		t.Execute = w.site.around(t, made, t.Execute)
	}
}

func (w *watcher) UpdateObject(_ *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	if object.Reference().Type != "VirtualMachine" {
		return
	}
	vm, ok := w.site.registry.Get(object.Reference()).(*simulator.VirtualMachine)
	if !ok || vm.Config == nil {
		return
	}
	for _, change := range changes {
		switch change.Name {
		case "runtime.powerState":
			w.site.powerChanged(vm)
		case "name":
			w.site.update(vm, set("config.name", vm.Name), set("summary.config.name", vm.Name))
			w.site.open.record(vm, w.site.snapshotsOf(vm.Self))
		case "config.hardware.device":
			w.site.open.record(vm, w.site.snapshotsOf(vm.Self))
			if err := w.site.plug(vm); err != nil {
				log.Printf("block devices of %s: %v", vm.Name, err)
			}
		}
	}
}

func (w *watcher) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type != "VirtualMachine" {
		return
	}
	if vm, ok := w.site.registry.Get(ref).(*simulator.VirtualMachine); ok {
		w.site.devices.keep(vm)
		w.site.open.forget(ref)
		w.site.guests.forget(ref)
	}
}

// powerChanged is what a machine's start or end brings along.
func (s *site) powerChanged(vm *simulator.VirtualMachine) {
	s.open.record(vm, s.snapshotsOf(vm.Self))
	s.guests.powerChanged(vm)
	s.showTools(vm)
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		s.started.add(vm.Self)
		s.startTracking(vm)
	}
}
