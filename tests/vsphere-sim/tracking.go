package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
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

// begin starts a new UUID from the bytes as they are.
func (t *tracks) begin(disk, bytes string, size int64, partial bool) (*track, error) {
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
		delete(t.all, disk)
	}
}

// startTracking is what a stun brings: tracking that was asked for begins, and what was switched off ends. With
// snapshots from before that, what is in use is not known.
func (s *site) startTracking(vm *simulator.VirtualMachine, snapshots bool) {
	if err := s.stun(vm, snapshots); err != nil {
		// Only a full or broken disk of this machine leads here, and no test should go on from it.
		panic(err)
	}
}

func (s *site) stun(vm *simulator.VirtualMachine, snapshots bool) error {
	wanted := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
	for _, disk := range disksOf(vm) {
		b := disk.Backing.(*flat)
		one := s.tracks.of(base(b))
		switch {
		case !wanted || independent(disk):
			s.tracks.end(base(b))
			if b.ChangeId != "" {
				s.replace(vm, disk.Key, func(_ *types.VirtualDisk, b *flat) { b.ChangeId = "" })
			}
			continue
		case one == nil:
			bytes, capacity, err := s.descriptor(b.FileName)
			if err != nil {
				return err
			}
			if one, err = s.tracks.begin(base(b), bytes, capacity, snapshots); err != nil {
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
		one := s.tracks.of(base(b))
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
		if s.tracks.of(base(b)) == nil {
			continue
		}
		bytes, capacity, err := s.descriptor(b.FileName)
		if err != nil {
			return err
		}
		one, err := s.tracks.begin(base(b), bytes, capacity, len(s.snapshotsOf(vm.Self)) > 0)
		if err != nil {
			return err
		}
		s.showChangeId(vm, disk, one.id(1))
	}
	return nil
}

func (s *site) trackingReverted(vm *simulator.VirtualMachine) error {
	if s.dial.get().ResetOnRevert {
		return s.resetTracking(vm)
	}
	return s.stun(vm, true)
}
