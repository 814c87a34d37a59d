package main

import (
	"context"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is a virtual machine with the methods that VMware's simulator lacks, or does too simply.
type machine struct {
	*simulator.VirtualMachine
	site *site
}

// folder is a folder with those of its own.
type folder struct {
	*simulator.Folder
	site *site
}

// face is what a lookup needs of an entity: VMware's registry writes to what it is given, and the object is everybody's.
func face(e *mo.ManagedEntity) *mo.ManagedEntity {
	copied := mo.ManagedEntity{Name: e.Name, DisabledMethod: e.DisabledMethod}
	copied.Self = e.Self
	return &copied
}

func (m *machine) Entity() *mo.ManagedEntity { return face(m.VirtualMachine.Entity()) }
func (f *folder) Entity() *mo.ManagedEntity  { return face(f.Folder.Entity()) }

// intercept sees every call before it is carried out: it counts, delays and refuses, and puts ours in the place of
// VMware's objects.
func (s *site) intercept(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	// What this module calls itself is nobody's call.
	if ctx.Value(ownCall{}) != nil {
		return nil, s.overlay(ctx, m)
	}
	s.calls.soap(m.Name)
	s.leases.called(m)
	s.forgotten.asked(m)
	s.delays.wait(m.Name, s.ended)
	if s.dial.get().Restricted && writes(m.Name) {
		return nil, &types.RestrictedVersion{}
	}
	if fault := s.hosts.fault(s, m); fault != nil {
		return nil, fault
	}
	return nil, s.overlay(ctx, m)
}

type ownCall struct{}

// own is the context of this module's own calls.
func own() context.Context { return context.WithValue(context.Background(), ownCall{}, true) }

// overlay makes this one call find our object. Each request has a session object of its own, so nobody else does.
// (The object that this hook may return is not enough: a session looks the object up again.)
func (s *site) overlay(ctx *simulator.Context, m *simulator.Method) types.BaseMethodFault {
	if ctx.Session == nil {
		return nil
	}
	if !ourMethods[m.Name] {
		return nil
	}
	session := ctx.Session.Registry
	var ours mo.Reference
	switch object := s.registry.Get(m.This).(type) {
	case *simulator.VirtualMachine:
		ours = &machine{object, s}
	case *simulator.VirtualMachineSnapshot:
		ours = &frozen{object, s, session}
	case *simulator.Folder:
		ours = &folder{object, s}
	case *simulator.StorageResourceManager:
		ours = &storageManager{object, s}
	case *simulator.VirtualDiskManager:
		ours = &diskManager{object, s}
	case *simulator.AuthorizationManager:
		ours = &rights{object, s}
	default:
		return nil
	}
	ctx.Session.Registry = simulator.NewRegistry()
	ctx.Session.Registry.Put(ours)
	return nil
}

// ourMethods are those that this module has in the place of VMware's simulator, or beyond it.
var ourMethods = map[string]bool{
	"QueryChangedDiskAreas": true, "ConsolidateVMDisks_Task": true,
	"CreateSnapshot_Task": true, "CreateSnapshotEx_Task": true, "RemoveSnapshot_Task": true,
	"RevertToSnapshot_Task": true, "RevertToCurrentSnapshot_Task": true, "ExportSnapshot": true,
	"PowerOnVM_Task": true, "ShutdownGuest": true, "RebootGuest": true,
	"ReconfigVM_Task": true, "CreateVM_Task": true, "RegisterVM_Task": true, "Rename_Task": true,
	"ConfigureStorageDrsForPod_Task": true, "DeleteVirtualDisk_Task": true,
	"HasPrivilegeOnEntities": true, "HasPrivilegeOnEntity": true,
	"HasUserPrivilegeOnEntities": true, "FetchUserPrivilegeOnEntities": true,
}

var reads = []string{
	"Retrieve", "Query", "Find", "Login", "Logout", "WaitFor", "ContinueRetrieve", "Cancel", "CreateFilter",
	"CreateContainerView", "CreateListView", "CreateInventoryView", "CreatePropertyCollector", "CreateCollector",
	"DestroyPropertyFilter", "DestroyPropertyCollector", "DestroyView", "DestroyCollector", "ModifyListView", "ResetListView",
	"CurrentTime", "CheckForUpdates", "SessionIsActive", "Search", "Fetch", "HasPrivilege", "ReadNext", "ReadPrevious",
	"Rewind", "ResetCollector", "SetCollectorPageSize", "AcquireGenericServiceTicket", "TerminateSession",
}

// writes says whether a free licence refuses the method.
func writes(method string) bool {
	for _, read := range reads {
		if strings.HasPrefix(method, read) {
			return false
		}
	}
	return true
}
