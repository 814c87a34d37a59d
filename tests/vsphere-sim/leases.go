package main

import (
	"fmt"
	"net/http"
	"path"
	"reflect"
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
	lease := ctx.Session.Get(body.Res.Returnval).(*simulator.HttpNfcLease)
	f.site.leases.add(body.Res.Returnval.Value, f.named(lease))
	return answer
}

// named gives the disks of a lease the keys and file names that a real host gives them, and says which disk is behind a name.
// VMware's simulator numbers them by kind, and names them by their files, of which two may have one name.
func (f *frozen) named(lease *simulator.HttpNfcLease) map[string]string {
	devices := object.VirtualDeviceList(f.Config.Hardware.Device)
	disks, frozen := make(map[string]string), disksIn(devices)
	urls := lease.Info.DeviceUrl
	for i := range urls {
		if urls[i].Disk == nil || !*urls[i].Disk {
			continue
		}
		disk, name := frozen[len(disks)], fmt.Sprintf("disk-%d.vmdk", len(disks))
		at := devices.FindByKey(disk.ControllerKey)
		kind := reflect.TypeOf(at).Elem().Name()
		bus := at.(types.BaseVirtualController).GetVirtualController().BusNumber
		urls[i].Key = fmt.Sprintf("/%s/%s%d:%d", lease.Info.Entity.Value, kind, bus, *disk.UnitNumber)
		urls[i].Url = strings.TrimSuffix(urls[i].Url, path.Base(urls[i].Url)) + name
		urls[i].TargetId = name
		disks[name] = disk.Backing.(*flat).FileName
	}
	return disks
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
