package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// blockDevices shows the disks of machines as their Linux guests see them: below a folder, block/<name>/device leads to the
// address at the controller, with the identifier beside it, and dev/<name> is the disk. A change of the machine ends after
// it is seen there.
type blockDevices struct {
	mu  sync.Mutex
	all map[types.ManagedObjectReference]string
}

func (b *blockDevices) folder(of types.ManagedObjectReference) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	dir, ok := b.all[of]
	return dir, ok
}

// showDevices begins to show a machine's disks in a folder that is made new.
func (s *site) showDevices(c struct{ Machine, Folder string }) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(c.Folder) {
		return nil, fmt.Errorf("folder %q: an absolute path", c.Folder)
	}
	for _, part := range []string{"", "block", "devices", "dev"} {
		if err := os.Mkdir(filepath.Join(c.Folder, part), 0o700); err != nil {
			return nil, err
		}
	}
	s.blocks.mu.Lock()
	if s.blocks.all == nil {
		s.blocks.all = make(map[types.ManagedObjectReference]string)
	}
	s.blocks.all[vm.Self] = c.Folder
	s.blocks.mu.Unlock()
	s.locked(vm, func() { err = s.plug(vm) })
	return nil, err
}

// plug makes the folder of a machine, if it has one, show the disks that it has now. It is called with the machine's lock.
func (s *site) plug(vm *simulator.VirtualMachine) error {
	folder, ok := s.blocks.folder(vm.Self)
	if !ok {
		return nil
	}
	shown := make(map[string]bool)
	for _, disk := range disksOf(vm) {
		bytes, _, err := s.descriptor(disk.Backing.(*flat).FileName)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		name := fmt.Sprintf("sd%d", disk.Key)
		shown[name] = true
		if now, err := os.Readlink(filepath.Join(folder, "dev", name)); err == nil && now == bytes {
			continue
		}
		if err := errors.Join(unplug(folder, name), plugOne(folder, name, bytes, disk)); err != nil {
			return err
		}
	}
	there, err := os.ReadDir(filepath.Join(folder, "block"))
	for _, entry := range there {
		if !shown[entry.Name()] {
			err = errors.Join(err, unplug(folder, entry.Name()))
		}
	}
	return err
}

func plugOne(folder, name, bytes string, disk *types.VirtualDisk) error {
	unit := int32(0)
	if disk.UnitNumber != nil {
		unit = *disk.UnitNumber
	}
	device := filepath.Join(folder, "devices", name, fmt.Sprintf("%d:0:%d:0", disk.ControllerKey, unit))
	wwid := "naa." + strings.ToLower(strings.ReplaceAll(disk.Backing.(*flat).Uuid, "-", ""))
	block := filepath.Join(folder, "block", name)
	err := os.MkdirAll(device, 0o700)
	err = errors.Join(err, os.WriteFile(filepath.Join(device, "wwid"), []byte(wwid+"\n"), 0o600))
	err = errors.Join(err, os.Symlink(bytes, filepath.Join(folder, "dev", name)))
	return errors.Join(err, os.Mkdir(block, 0o700), os.Symlink(device, filepath.Join(block, "device")))
}

func unplug(folder, name string) error {
	var all error
	for _, part := range []string{"block", "dev", "devices"} {
		all = errors.Join(all, os.RemoveAll(filepath.Join(folder, part, name)))
	}
	return all
}
