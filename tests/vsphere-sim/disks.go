package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vmdk"
)

type flat = types.VirtualDiskFlatVer2BackingInfo

// resolve turns "[datastore] path" into the local file.
func (s *site) resolve(name string) (string, error) {
	var p object.DatastorePath
	if !p.FromString(name) {
		return "", fmt.Errorf("%q is no datastore path", name)
	}
	root, ok := s.datastore(p.Datastore)
	if !ok {
		return "", fmt.Errorf("%q: there is no datastore of that name", name)
	}
	if !filepath.IsLocal(p.Path) {
		return "", fmt.Errorf("%q leads out of its datastore", name)
	}
	return filepath.Join(root, p.Path), nil
}

// datastore is the folder of one. It is remembered, as all objects are looked through to find it.
func (s *site) datastore(name string) (string, bool) {
	if known, ok := s.stores.Load(name); ok {
		if store := known.(*simulator.Datastore); store.Name == name && s.registry.Get(store.Self) != nil {
			return store.Info.GetDatastoreInfo().Url, true
		}
	}
	for _, d := range s.registry.All("Datastore") {
		if store := d.(*simulator.Datastore); store.Name == name {
			s.stores.Store(name, store)
			return store.Info.GetDatastoreInfo().Url, true
		}
	}
	return "", false
}

// datastoreType lets a datastore be of another type than VMFS.
func (s *site) datastoreType(name, kind string) error {
	for _, entity := range s.registry.All("Datastore") {
		if store := entity.(*simulator.Datastore); store.Name == name {
			s.locked(store, func() { s.update(store, set("summary.type", kind)) })
			return nil
		}
	}
	return fmt.Errorf("datastore %q: there is none of that name", name)
}

// descriptor reads a .vmdk: the file of the disk's bytes, and the capacity.
func (s *site) descriptor(name string) (bytes string, capacity int64, err error) {
	local, err := s.resolve(name)
	if err != nil {
		return "", 0, err
	}
	f, err := os.Open(local)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	d, err := vmdk.ParseDescriptor(f)
	if err != nil {
		return "", 0, err
	}
	if len(d.Extent) != 1 {
		return "", 0, fmt.Errorf("%s: %d extents, where there is one", name, len(d.Extent))
	}
	return filepath.Join(filepath.Dir(local), d.Extent[0].Info), d.Capacity(), nil
}

// describe writes a .vmdk.
func (s *site) describe(name string, kind, extent string, capacity int64) error {
	local, err := s.resolve(name)
	if err != nil {
		return err
	}
	d := vmdk.NewDescriptor(vmdk.Extent{Type: extent, Size: capacity / vmdk.SectorSize, Info: filepath.Base(extentName(local, extent))})
	d.Type = kind
	f, err := os.Create(local)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.Write(f)
}

func extentName(local, extent string) string {
	ending := "-flat.vmdk"
	if extent == sparseExtent {
		ending = "-delta.vmdk"
	}
	return strings.TrimSuffix(local, ".vmdk") + ending
}

// fill gives a new or grown disk's file its real size.
func (s *site) fill(name string) types.BaseMethodFault {
	bytes, capacity, err := s.descriptor(name)
	if err != nil {
		return fileFault(name, err)
	}
	info, err := os.Stat(bytes)
	if err == nil && info.Size() >= capacity {
		return nil
	}
	if err := empty(bytes, capacity); err != nil {
		return fileFault(name, err)
	}
	return nil
}

// settle makes a machine's disks right after a change of its devices: capacities and sizes agree with the files.
func (s *site) settle(vm *simulator.VirtualMachine) types.BaseMethodFault {
	for _, disk := range disksOf(vm) {
		name := disk.Backing.(*flat).FileName
		bytes, capacity, err := s.descriptor(name)
		if err != nil {
			return fileFault(name, err)
		}
		if disk.CapacityInBytes < capacity {
			s.replace(vm, disk.Key, func(d *types.VirtualDisk, _ *flat) {
				d.CapacityInBytes, d.CapacityInKB = capacity, capacity/1024
			})
		} else if disk.CapacityInBytes > capacity {
			if strings.HasSuffix(bytes, "-delta.vmdk") {
				return &types.InvalidDeviceOperation{}
			}
			if err := s.describe(name, "vmfs", "VMFS", disk.CapacityInBytes); err != nil {
				return fileFault(name, err)
			}
		}
		if fault := s.fill(name); fault != nil {
			return fault
		}
	}
	s.open.record(vm, s.snapshotsOf(vm.Self))
	return nil
}

// disksOf lists the disks that have a file each.
func disksOf(vm *simulator.VirtualMachine) []*types.VirtualDisk {
	return disksIn(vm.Config.Hardware.Device)
}

func disksIn(devices []types.BaseVirtualDevice) []*types.VirtualDisk {
	var found []*types.VirtualDisk
	for _, device := range devices {
		if disk, ok := device.(*types.VirtualDisk); ok {
			if _, ok := disk.Backing.(*flat); ok {
				found = append(found, disk)
			}
		}
	}
	return found
}

func independent(disk *types.VirtualDisk) bool {
	return strings.HasPrefix(disk.Backing.(*flat).DiskMode, "independent")
}

// replace puts a changed copy in a disk's place, since others read the old one without a lock.
func (s *site) replace(vm *simulator.VirtualMachine, key int32, change func(*types.VirtualDisk, *flat)) {
	devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
	for i, device := range devices {
		if disk, ok := device.(*types.VirtualDisk); ok && disk.Key == key {
			next, backing := *disk, *disk.Backing.(*flat)
			next.Backing = &backing
			change(&next, &backing)
			devices[i] = &next
		}
	}
	s.update(vm, set("config.hardware.device", devices))
}

// base is the first file of a chain, by which a disk is known as long as it exists.
func base(b *flat) string {
	for b.Parent != nil {
		b = b.Parent
	}
	return b.FileName
}

func fileFault(name string, err error) types.BaseMethodFault {
	fault := types.FileFault{File: name}
	if errors.Is(err, fs.ErrNotExist) {
		return &types.FileNotFound{FileFault: fault}
	}
	fault.FaultCause = &types.LocalizedMethodFault{LocalizedMessage: err.Error(), Fault: &types.SystemErrorFault{Reason: err.Error()}}
	return &fault
}
