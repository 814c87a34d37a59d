package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// A disk's changes are found by comparing its bytes at each snapshot with those at the one before. A changeId is
// "<UUID>/<n>": the n-th snapshot since tracking began with that UUID.

// track is the change tracking of one disk, as the .ctk file beside a real one.
type track struct {
	uuid    string
	epoch   int
	seen    string    // copy of the bytes at the end of the epoch
	changed [][]int64 // by epoch: the grains that differ from the epoch before
	partial bool      // snapshots existed when it began, so what was in use then is not known
}

// mark is another name of the disk's first file: a new disk in its place is told apart by it.
func (t *track) mark() string { return t.seen + ".disk" }

func (t *track) id(epoch int) string { return fmt.Sprintf("%s/%d", t.uuid, epoch) }

// tracks are all disks' tracking, by the first file of the chain.
type tracks struct {
	mu   sync.Mutex
	dir  string
	next int
	all  map[string]*track
}

func (t *tracks) of(disk string) *track {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[disk]
}

// track is a disk's, unless the disk is another one by now that has the same name.
func (s *site) track(b *flat) *track {
	one := s.tracks.of(base(b))
	if one == nil {
		return nil
	}
	if bytes, _, err := s.descriptor(base(b)); err != nil || !sameFile(bytes, one.mark()) {
		s.tracks.end(base(b))
		return nil
	}
	return one
}

func sameFile(a, b string) bool {
	left, err := os.Stat(a)
	if err != nil {
		return false
	}
	right, err := os.Stat(b)
	return err == nil && os.SameFile(left, right)
}

// begin starts a new UUID from the bytes as they are.
func (s *site) begin(b *flat, partial bool) (*track, error) {
	bytes, size, err := s.descriptor(b.FileName)
	if err != nil {
		return nil, err
	}
	first, _, err := s.descriptor(base(b))
	if err != nil {
		return nil, err
	}
	t, disk := &s.tracks, base(b)
	var id [16]byte
	rand.Read(id[:])
	pairs := make([]string, len(id))
	for i := range id {
		pairs[i] = hex.EncodeToString(id[i : i+1])
	}
	t.mu.Lock()
	t.next++
	one := &track{
		uuid:    strings.Join(pairs[:8], " ") + "-" + strings.Join(pairs[8:], " "),
		seen:    filepath.Join(t.dir, strconv.Itoa(t.next)),
		changed: make([][]int64, 1),
		partial: partial,
	}
	t.mu.Unlock()
	if err := clone(bytes, one.seen, size); err != nil {
		return nil, err
	}
	if err := os.Link(first, one.mark()); err != nil {
		return nil, err
	}
	t.end(disk)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[string]*track)
	}
	t.all[disk] = one
	return one, nil
}

func (t *tracks) end(disk string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.all[disk]; one != nil {
		os.Remove(one.seen)
		os.Remove(one.mark())
		delete(t.all, disk)
	}
}

// startTracking is what a start brings.
func (s *site) startTracking(vm *simulator.VirtualMachine) {
	if err := s.stun(vm, len(s.snapshotsOf(vm.Self)) > 0); err != nil {
		// As with a .ctk that cannot be opened: the machine runs, and its changes are not known.
		log.Printf("%s is not tracked: %s", vm.Name, err)
		for _, disk := range disksOf(vm) {
			s.tracks.end(base(disk.Backing.(*flat)))
		}
	}
}

// stun lets tracking that was asked for begin, and ends what was switched off. With snapshots from before that, what is in
// use is not known.
func (s *site) stun(vm *simulator.VirtualMachine, snapshots bool) error {
	wanted := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		one := s.track(b)
		switch {
		case !wanted || independent(disk):
			s.tracks.end(base(b))
			if b.ChangeId != "" {
				s.replace(vm, disk.Key, func(_ *types.VirtualDisk, b *flat) { b.ChangeId = "" })
			}
			continue
		case one == nil:
			var err error
			if one, err = s.begin(b, snapshots); err != nil {
				return err
			}
		}
		s.showChangeId(vm, disk, one.id(one.epoch+1))
	}
	return nil
}

func (s *site) showChangeId(vm *simulator.VirtualMachine, disk *types.VirtualDisk, id string) {
	if disk.Backing.(*flat).ChangeId != id {
		s.replace(vm, disk.Key, func(_ *types.VirtualDisk, b *flat) { b.ChangeId = id })
	}
}

// closeEpochs notes what changed, so that the snapshot to come carries each disk's changeId.
func (s *site) closeEpochs(vm *simulator.VirtualMachine) error {
	if s.dial.get().FirstChangeId {
		if err := s.stun(vm, len(s.snapshotsOf(vm.Self)) > 0); err != nil {
			return err
		}
	}
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		one := s.track(b)
		if b.ChangeId == "" || one == nil || independent(disk) {
			continue
		}
		bytes, capacity, err := s.descriptor(b.FileName)
		if err != nil {
			return err
		}
		changed, err := update(bytes, one.seen, capacity)
		if err != nil {
			return err
		}
		one.epoch++
		one.changed = append(one.changed, changed)
		s.showChangeId(vm, disk, one.id(one.epoch))
	}
	return nil
}

// resetTracking begins new UUIDs, as a lost .ctk does.
func (s *site) resetTracking(vm *simulator.VirtualMachine) error {
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		if s.track(b) == nil {
			continue
		}
		one, err := s.begin(b, len(s.snapshotsOf(vm.Self)) > 0)
		if err != nil {
			return err
		}
		s.showChangeId(vm, disk, one.id(1))
	}
	return nil
}

func (s *site) trackingReverted(vm *simulator.VirtualMachine) error {
	d := s.dial.get()
	if d.ResetOnRevert {
		return s.resetTracking(vm)
	}
	if d.RevertUntold {
		for _, disk := range disksOf(vm) {
			b := disk.Backing.(*flat)
			one := s.track(b)
			if one == nil {
				continue
			}
			bytes, size, err := s.descriptor(b.FileName)
			if err != nil {
				return err
			}
			if err := errors.Join(os.Remove(one.seen), clone(bytes, one.seen, size)); err != nil {
				return err
			}
		}
	}
	return s.stun(vm, true)
}
