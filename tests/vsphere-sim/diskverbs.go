package main

import (
	"fmt"
	"os"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// diskFile says where a disk's bytes are now: a snapshot, its removal or a revert moves them.
type diskFile struct {
	Key      int32  `json:"key"`
	Label    string `json:"label"`
	Vmdk     string `json:"vmdk"` // [datastore] path
	File     string `json:"file"` // local
	Capacity int64  `json:"capacity"`
	Uuid     string `json:"uuid"`
	ChangeId string `json:"changeId"`
}

func (s *site) diskFiles(c ofMachine) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	found := []diskFile{}
	s.locked(vm, func() {
		for _, disk := range disksOf(vm) {
			b := disk.Backing.(*flat)
			var local string
			if local, _, err = s.descriptor(b.FileName); err != nil {
				return
			}
			found = append(found, diskFile{disk.Key, labelOf(disk.DeviceInfo), b.FileName, local, disk.CapacityInBytes, b.Uuid, b.ChangeId})
		}
	})
	return found, err
}

type ofDisk struct {
	Machine string `json:"machine"`
	Key     int32  `json:"key"` // 0 is the first disk
}

// disk finds one, with its machine's lock held.
func disk(vm *simulator.VirtualMachine, key int32) (*types.VirtualDisk, error) {
	for _, one := range disksOf(vm) {
		if key == 0 || one.Key == key {
			return one, nil
		}
	}
	return nil, fmt.Errorf("key %d: %s has no such disk", key, vm.Name)
}

// guestWrite writes as the machine itself does, to wherever its bytes are now.
func (s *site) guestWrite(c struct {
	ofDisk
	Offset int64
	Data   []byte
}) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	s.locked(vm, func() { err = s.write(vm, c.Key, c.Offset, c.Data) })
	return nil, err
}

func (s *site) write(vm *simulator.VirtualMachine, key int32, offset int64, block []byte) error {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return fmt.Errorf("machine %s is off, and writes nothing", vm.Name)
	}
	one, err := disk(vm, key)
	if err != nil {
		return err
	}
	if offset < 0 || offset+int64(len(block)) > one.CapacityInBytes {
		return fmt.Errorf("offset %d: %d bytes do not fit into %d", offset, len(block), one.CapacityInBytes)
	}
	local, _, err := s.descriptor(one.Backing.(*flat).FileName)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(local, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(block, offset)
	return err
}

func (s *site) diskAdd(c struct {
	Machine string
	Bytes   int64
}) (any, error) {
	machine, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	if c.Bytes < 1024 || c.Bytes%1024 != 0 {
		return nil, fmt.Errorf("bytes %d: a positive multiple of 1024", c.Bytes)
	}
	devices, err := vm.Device(own())
	if err != nil {
		return nil, err
	}
	controller, err := devices.FindDiskController("scsi")
	if err != nil {
		return nil, err
	}
	var at object.DatastorePath
	at.FromString(machine.Config.Files.VmPathName)
	one := devices.CreateDisk(controller, types.ManagedObjectReference{}, fmt.Sprintf("[%s]", at.Datastore))
	one.CapacityInBytes, one.CapacityInKB = c.Bytes, c.Bytes/1024
	return nil, vm.AddDevice(own(), one)
}

func (s *site) diskGrow(c struct {
	ofDisk
	Bytes int64
}) (any, error) {
	machine, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	var one types.VirtualDisk
	s.locked(machine, func() {
		var found *types.VirtualDisk
		if found, err = disk(machine, c.Key); err == nil {
			one = *found
			backing := *found.Backing.(*flat)
			one.Backing = &backing
		}
	})
	if err != nil {
		return nil, err
	}
	if c.Bytes <= one.CapacityInBytes || c.Bytes%1024 != 0 {
		return nil, fmt.Errorf("bytes %d: more than %d, and a multiple of 1024", c.Bytes, one.CapacityInBytes)
	}
	one.CapacityInBytes, one.CapacityInKB = c.Bytes, c.Bytes/1024
	// Not by the client's EditDevice, which asks for a new file.
	change := types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: &one}
	return nil, s.finish(vm.Reconfigure(own(), types.VirtualMachineConfigSpec{
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&change},
	}))
}

func (s *site) diskRemove(c struct {
	ofDisk
	Keep bool
}) (any, error) {
	machine, vm, err := s.remote(c.Machine)
	if err != nil {
		return nil, err
	}
	var one *types.VirtualDisk
	s.locked(machine, func() { one, err = disk(machine, c.Key) })
	if err != nil {
		return nil, err
	}
	return nil, vm.RemoveDevice(own(), c.Keep, one)
}
