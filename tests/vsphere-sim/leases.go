package main

import (
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// leases knows the disks behind the addresses of an export: VMware's simulator sends the descriptor's text there.
type leases struct {
	mu  sync.Mutex
	all map[string]map[string]string // lease, name of a file: [datastore] path
}

func (l *leases) add(lease string, disks map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]map[string]string)
	}
	l.all[lease] = disks
}

func (l *leases) disk(lease, name string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	vmdk, ok := l.all[lease][name]
	return vmdk, ok
}

// called ends a lease that its client completes or aborts.
func (l *leases) called(m *simulator.Method) {
	if m.Name == "HttpNfcLeaseComplete" || m.Name == "HttpNfcLeaseAbort" {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, m.This.Value)
	}
}

// ExportSnapshot makes a lease whose disks can be fetched.
func (f *frozen) ExportSnapshot(ctx *simulator.Context, req *types.ExportSnapshot) soap.HasFault {
	// The lease belongs to the session, so it has to be put there.
	ctx.Session.Registry = f.session
	answer := f.VirtualMachineSnapshot.ExportSnapshot(ctx, req)
	body := answer.(*methods.ExportSnapshotBody)
	if body.Res == nil {
		return answer
	}
	disks := make(map[string]string)
	for _, disk := range disksIn(f.Config.Hardware.Device) {
		var at object.DatastorePath
		name := disk.Backing.(*flat).FileName
		at.FromString(name)
		disks[path.Base(at.Path)] = name
	}
	f.site.leases.add(body.Res.Returnval.Value, disks)
	return answer
}

// serveLease sends a disk whole, as a streamOptimized VMDK; a Range is not looked at, as on a real host.
func (s *site) serveLease(w http.ResponseWriter, r *http.Request) {
	lease, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/nfc/"), "/")
	vmdk, ok := s.leases.disk(lease, name)
	if !ok {
		http.Error(w, "there is no such lease or file", http.StatusNotFound)
		return
	}
	bytes, capacity, err := s.descriptor(vmdk)
	if err != nil {
		http.Error(w, "the disk cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	if err := streamOptimized(w, bytes, name, capacity); err != nil {
		panic(http.ErrAbortHandler)
	}
}
