package main

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// place is where a machine is created.
type place struct {
	folder  *object.Folder
	pool    *object.ResourcePool
	host    *object.HostSystem
	network types.BaseVirtualDeviceBackingInfo
	prefix  string
}

// populate makes the machines to begin with, with VMware's names: in vCenter mode in turns on the standalone host
// and in the cluster.
func (s *site) populate(ctx context.Context) error {
	places, err := s.places(ctx)
	if err != nil {
		return err
	}
	const together = 8
	var wait sync.WaitGroup
	failures := make(chan error, together)
	for worker := range together {
		wait.Go(func() {
			for i := worker; i < s.options.machines; i += together {
				at := places[i%len(places)]
				spec := machineSpec{
					Name:  fmt.Sprintf("%s_VM%d", at.prefix, i/len(places)),
					Disks: []int64{s.options.diskSize}, On: true,
				}
				if _, err := s.create(ctx, at, spec); err != nil {
					failures <- fmt.Errorf("machine %s: %w", spec.Name, err)
					return
				}
			}
		})
	}
	wait.Wait()
	close(failures)
	return <-failures
}

func (s *site) places(ctx context.Context) ([]place, error) {
	finder := find.NewFinder(s.client, false)
	dc, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return nil, err
	}
	folders, err := dc.Folders(ctx)
	if err != nil {
		return nil, err
	}
	finder.SetDatacenter(dc)
	network := "VM Network"
	if s.options.mode == "vcenter" {
		network = "DC0_DVPG0"
	}
	net, err := finder.Network(ctx, network)
	if err != nil {
		return nil, err
	}
	backing, err := net.EthernetCardBackingInfo(ctx)
	if err != nil {
		return nil, err
	}
	var found []place
	for _, at := range []struct{ pool, host, prefix string }{
		{"DC0_H0/Resources", "DC0_H0/DC0_H0", "DC0_H0"},
		{"DC0_C0/Resources", "", "DC0_C0_RP0"},
		{"*/Resources", "*", "ha-host"},
	} {
		if (at.prefix == "ha-host") != (s.options.mode == "esxi") {
			continue
		}
		p := place{folder: folders.VmFolder, network: backing, prefix: at.prefix}
		if p.pool, err = finder.ResourcePool(ctx, at.pool); err != nil {
			return nil, err
		}
		if at.host != "" {
			if p.host, err = finder.HostSystem(ctx, at.host); err != nil {
				return nil, err
			}
		}
		found = append(found, p)
	}
	return found, nil
}

// machineSpec is also the body of POST /control/machine-create.
type machineSpec struct {
	Name      string  `json:"name"`
	Folder    string  `json:"folder"`    // on the datastore; by default made from the name
	Datastore string  `json:"datastore"` // by default LocalDS_0
	Disks     []int64 `json:"disks"`     // bytes each
	Tracking  bool    `json:"tracking"`  // changeTrackingEnabled from the start
	Firmware  string  `json:"firmware"`  // bios (default) or efi
	GuestId   string  `json:"guest_id"`  // otherLinux64Guest by default
	On        bool    `json:"on"`
	Cluster   bool    `json:"cluster"` // in vCenter mode: in the cluster, not on the standalone host

	Modes   []string `json:"modes"`   // of the disks, persistent by default; with /shared the disk is one for several writers
	Version string   `json:"version"` // vmx-21 by default; before vmx-07 no changes are tracked
}

func (s *site) create(ctx context.Context, at place, m machineSpec) (*object.VirtualMachine, error) {
	if m.Datastore == "" {
		m.Datastore = "LocalDS_0"
	}
	if m.Folder == "" {
		m.Folder = strings.NewReplacer("/", "_", "%", "_").Replace(m.Name)
	}
	if m.GuestId == "" {
		m.GuestId = "otherLinux64Guest"
	}
	path_ := func(file string) string { return fmt.Sprintf("[%s] %s", m.Datastore, path.Join(m.Folder, file)) }

	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	if err != nil {
		return nil, err
	}
	devices = append(devices, scsi)
	for i, size := range m.Disks {
		if size < 1024 || size%1024 != 0 {
			return nil, fmt.Errorf("disks[%d] is %d: a positive multiple of 1024", i, size)
		}
		name := m.Folder + ".vmdk"
		if i > 0 {
			name = fmt.Sprintf("%s_%d.vmdk", m.Folder, i)
		}
		disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{}, path_(name))
		disk.CapacityInBytes, disk.CapacityInKB = size, size/1024
		backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		backing.ThinProvisioned = types.NewBool(true)
		if i < len(m.Modes) && m.Modes[i] != "" {
			mode, shared := strings.CutSuffix(m.Modes[i], "/shared")
			if backing.DiskMode = mode; shared {
				backing.Sharing = string(types.VirtualDiskSharingSharingMultiWriter)
			}
		}
		devices = append(devices, disk)
	}
	card, err := devices.CreateEthernetCard("vmxnet3", at.network)
	if err != nil {
		return nil, err
	}
	devices = append(devices, card)
	changes, err := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	if err != nil {
		return nil, err
	}
	task, err := at.folder.CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name: m.Name, GuestId: m.GuestId, NumCPUs: 1, MemoryMB: 1024, Firmware: m.Firmware,
		Files:   &types.VirtualMachineFileInfo{VmPathName: path_(m.Folder + ".vmx")},
		Version: m.Version, ChangeTrackingEnabled: &m.Tracking, DeviceChange: changes,
	}, at.pool, at.host)
	if err != nil {
		return nil, err
	}
	made, err := s.await(task)
	if err != nil {
		return nil, err
	}
	vm := object.NewVirtualMachine(s.client, made.(types.ManagedObjectReference))
	if number, err := strconv.Atoi(strings.TrimPrefix(m.Version, "vmx-")); err == nil && number < 7 {
		machine := s.registry.Get(vm.Reference()).(*simulator.VirtualMachine)
		s.locked(machine, func() { s.update(machine, set("capability.changeTrackingSupported", false)) })
	}
	if !m.On {
		return vm, nil
	}
	return vm, s.finish(vm.PowerOn(ctx))
}

// machine finds a machine by name or by reference.
func (s *site) machine(name string) (*simulator.VirtualMachine, error) {
	byReference := s.registry.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: name})
	if vm, ok := byReference.(*simulator.VirtualMachine); ok {
		return vm, nil
	}
	ref, ok := s.open.named(name)
	if !ok {
		return nil, fmt.Errorf("machine %q: there is none of that name", name)
	}
	vm, ok := s.registry.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return nil, fmt.Errorf("machine %q is going away", name)
	}
	return vm, nil
}

// locked runs a function while it holds a machine's lock.
func (s *site) locked(object mo.Reference, f func()) {
	ctx := s.ctx()
	ctx.WithLock(object, f)
}
