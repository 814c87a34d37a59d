package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// autoStart is which machines a host starts with itself. VMware's simulator has no such manager.
type autoStart struct {
	mo.HostAutoStartManager
	site *site
}

func (s *site) addAutoStart() {
	for _, entity := range s.registry.All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		manager := &autoStart{site: s}
		manager.Self = types.ManagedObjectReference{Type: "HostAutoStartManager", Value: "autoStartManager-" + host.Self.Value}
		off := false
		manager.Config.Defaults = &types.AutoStartDefaults{Enabled: &off, StartDelay: 120, StopDelay: 120, StopAction: "PowerOff"}
		s.registry.Put(manager)
		s.locked(host, func() {
			config := host.ConfigManager
			config.AutoStartManager = &manager.Self
			s.update(host, set("configManager", config))
		})
	}
}

// ReconfigureAutostart changes the defaults, and keeps one entry per machine.
func (a *autoStart) ReconfigureAutostart(ctx *simulator.Context, req *types.ReconfigureAutostart) soap.HasFault {
	config := a.Config
	if req.Spec.Defaults != nil {
		config.Defaults = req.Spec.Defaults
	}
	config.PowerInfo = append([]types.AutoStartPowerInfo(nil), config.PowerInfo...)
	for _, change := range req.Spec.PowerInfo {
		if _, ok := a.site.registry.Get(change.Key).(*simulator.VirtualMachine); !ok {
			return &methods.ReconfigureAutostartBody{Fault_: simulator.Fault("", &types.NotFound{})}
		}
		kept := config.PowerInfo[:0:0]
		for _, one := range config.PowerInfo {
			if one.Key != change.Key {
				kept = append(kept, one)
			}
		}
		config.PowerInfo = append(kept, change)
	}
	ctx.Update(a, []types.PropertyChange{set("config", config)})
	return &methods.ReconfigureAutostartBody{Res: new(types.ReconfigureAutostartResponse)}
}
