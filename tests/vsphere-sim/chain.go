package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// A chain is base <- delta <- delta; the machine writes to the last, and each snapshot names the file that it froze.
// A delta here holds the whole disk, so that reading the file is reading the chain.

const sparseExtent = "VMFSSPARSE"

var numbered = regexp.MustCompile(`-\d{6}$`)

// extend freezes a disk's file and lets the machine write to a new delta.
func (s *site) extend(vm *simulator.VirtualMachine, disk *types.VirtualDisk, frozen *flat) error {
	from, capacity, err := s.descriptor(frozen.FileName)
	if err != nil {
		return err
	}
	name, local, err := s.nextDelta(frozen.FileName)
	if err != nil {
		return err
	}
	if err := clone(from, extentName(local, sparseExtent), capacity); err != nil {
		return err
	}
	if err := s.describe(name, "vmfsSparse", sparseExtent, capacity); err != nil {
		return err
	}
	s.replace(vm, disk.Key, func(d *types.VirtualDisk, b *flat) {
		d.CapacityInBytes, d.CapacityInKB = capacity, capacity/1024
		parent := *frozen
		parent.ChangeId = ""
		b.FileName, b.Parent = name, &parent
	})
	return nil
}

func (s *site) nextDelta(of string) (name, local string, err error) {
	stem := numbered.ReplaceAllString(strings.TrimSuffix(of, ".vmdk"), "")
	for n := 1; n < 1000000; n++ {
		name = fmt.Sprintf("%s-%06d.vmdk", stem, n)
		if local, err = s.resolve(name); err != nil {
			return "", "", err
		}
		if _, err := os.Stat(local); errors.Is(err, fs.ErrNotExist) {
			return name, local, nil
		}
	}
	return "", "", fmt.Errorf("%s: no number is left", of)
}

// snapshotsOf lists a machine's snapshots.
func (s *site) snapshotsOf(vm types.ManagedObjectReference) []*simulator.VirtualMachineSnapshot {
	var found []*simulator.VirtualMachineSnapshot
	for _, object := range s.registry.AllReference("VirtualMachineSnapshot") {
		if snapshot, ok := object.(*simulator.VirtualMachineSnapshot); ok && snapshot.Vm == vm {
			found = append(found, snapshot)
		}
	}
	return found
}

// links are a machine's chains: every file with what it rests on, and how many rest on it.
type links struct {
	parent   map[string]string
	children map[string][]string
	needed   map[string]bool // written by the machine, or frozen by a snapshot
}

func (l *links) add(b *flat, needed bool) {
	if needed {
		l.needed[b.FileName] = true
	}
	for ; b.Parent != nil; b = b.Parent {
		if l.parent[b.FileName] == "" {
			l.parent[b.FileName] = b.Parent.FileName
			l.children[b.Parent.FileName] = append(l.children[b.Parent.FileName], b.FileName)
		}
	}
}

func (s *site) links(vm *simulator.VirtualMachine) *links {
	l := &links{map[string]string{}, map[string][]string{}, map[string]bool{}}
	for _, disk := range disksOf(vm) {
		l.add(disk.Backing.(*flat), true)
	}
	for _, snapshot := range s.snapshotsOf(vm.Self) {
		for _, disk := range disksIn(snapshot.Config.Hardware.Device) {
			if !independent(disk) {
				l.add(disk.Backing.(*flat), true)
			}
		}
	}
	return l
}

// consolidate merges every file that no snapshot needs any longer. What somebody else has open stays, and is said.
func (s *site) consolidate(vm *simulator.VirtualMachine) (left string, err error) {
	for l := s.links(vm); ; l = s.links(vm) {
		into := ""
		for file, children := range l.children {
			if l.needed[file] || len(children) != 1 {
				continue
			}
			if s.open.elsewhere(vm.Self, file, children[0]) {
				left = file
				continue
			}
			into = file
		}
		if into == "" {
			return left, nil
		}
		if err := s.merge(vm, into, l.children[into][0]); err != nil {
			return "", err
		}
	}
}

// merge puts a child's bytes into the file it rests on, and that file in the child's place everywhere.
func (s *site) merge(vm *simulator.VirtualMachine, into, child string) error {
	from, capacity, err := s.descriptor(child)
	if err != nil {
		return err
	}
	to, _, err := s.descriptor(into)
	if err != nil {
		return err
	}
	if _, err := update(from, to, capacity); err != nil {
		return err
	}
	for _, disk := range disksOf(vm) {
		if spliced := splice(disk.Backing.(*flat), child); spliced != disk.Backing.(*flat) {
			s.replace(vm, disk.Key, func(_ *types.VirtualDisk, b *flat) { *b = *spliced })
		}
	}
	for _, snapshot := range s.snapshotsOf(vm.Self) {
		devices := append([]types.BaseVirtualDevice(nil), snapshot.Config.Hardware.Device...)
		for i, device := range devices {
			if disk, ok := device.(*types.VirtualDisk); ok {
				if b, ok := disk.Backing.(*flat); ok {
					next := *disk
					next.Backing = splice(b, child)
					devices[i] = &next
				}
			}
		}
		s.update(snapshot, set("config.hardware.device", devices))
	}
	return s.drop(child)
}

// splice leaves one file out of a chain.
func splice(b *flat, out string) *flat {
	if b.Parent == nil {
		return b
	}
	next := *b
	if b.FileName == out {
		next.FileName, next.Parent = b.Parent.FileName, b.Parent.Parent
		return &next
	}
	if next.Parent = splice(b.Parent, out); next.Parent == b.Parent {
		return b
	}
	return &next
}

// drop deletes a delta.
func (s *site) drop(name string) error {
	local, err := s.resolve(name)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(extentName(local, sparseExtent)), os.Remove(local))
}
