package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// tracked enables tracking and passes the stun that starts it.
func (w *world) tracked(name string) *object.VirtualMachine {
	w.Helper()
	w.tracking(name, true)
	vm := w.vm(name)
	w.remove(vm, w.snapshot(vm, "stun"), false)
	return vm
}

// all is every page.
func (w *world) all(vm *object.VirtualMachine, snapshot types.ManagedObjectReference, id string) ([]types.DiskChangeExtent, int) {
	w.Helper()
	disk, _ := w.frozenDisk(snapshot)
	var areas []types.DiskChangeExtent
	pages := 0
	for at := int64(0); at < disk.CapacityInBytes; pages++ {
		page, err := w.changed(vm, &snapshot, disk.Key, at, id)
		w.ok(err)
		same(w, "startOffset", page.StartOffset, at)
		if page.Length <= 0 {
			w.Fatal("an answer without length")
		}
		areas = append(areas, page.ChangedArea...)
		at += page.Length
	}
	return areas, pages
}

func TestChangedAreasAreThoseWritten(t *testing.T) {
	inBoth(t, func(w *world) {
		w.write(w.first, mib, bytes.Repeat([]byte{7}, 200_000))
		vm := w.tracked(w.first)
		one := w.snapshot(vm, "one")
		_, backing := w.frozenDisk(one)
		first := backing.ChangeId
		if !strings.HasSuffix(first, "/1") || len(first) != len("52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/1") {
			w.Fatalf("changeId %q", first)
		}
		inUse, _ := w.all(vm, one, "*")
		if want := []types.DiskChangeExtent{{Start: mib, Length: 4 * grain}}; !slices.Equal(inUse, want) {
			w.Fatalf("in use are %v, not %v", inUse, want)
		}

		w.write(w.first, 10*mib, []byte("changed"))
		w.write(w.first, mib+grain, make([]byte, grain))
		w.remove(vm, one, false)
		two := w.snapshot(vm, "two")
		areas, _ := w.all(vm, two, first)
		want := []types.DiskChangeExtent{{Start: mib + grain, Length: grain}, {Start: 10 * mib, Length: grain}}
		if !slices.Equal(areas, want) {
			w.Fatalf("changed are %v, not %v", areas, want)
		}
		_, backing = w.frozenDisk(two)
		none, _ := w.all(vm, two, backing.ChangeId)
		same(w, "areas since itself", len(none), 0)
		// The live machine is an epoch ahead: its changeId is no base for this snapshot.
		live := w.disksOf(w.first)[0].ChangeId
		_, err := w.changed(vm, &two, 0, 0, live)
		faults[*types.InvalidArgument](w, err)
	})
}

func TestTrackingNeedsAStun(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.tracking(w.first, true)
		one := w.snapshot(vm, "one")
		disk, backing := w.frozenDisk(one)
		same(w, "changeId of the snapshot that starts it", backing.ChangeId, "")
		_, err := w.changed(vm, &one, disk.Key, 0, "*")
		faults[*types.FileFault](w, err)
		two := w.snapshot(vm, "two")
		if _, backing = w.frozenDisk(two); backing.ChangeId == "" {
			w.Fatal("the next snapshot has no changeId")
		}

		w.control("settings", say{"first_change_id": true})
		w.tracking(w.second, true)
		other := w.snapshot(w.vm(w.second), "one")
		if _, backing = w.frozenDisk(other); backing.ChangeId == "" {
			w.Fatal("with first_change_id the snapshot has no changeId")
		}

		// A start is a stun as well.
		w.control("settings", say{"first_change_id": false})
		w.control("machine-create", say{"name": "started", "disks": []int{mib}, "tracking": true, "on": true})
		if _, backing = w.frozenDisk(w.snapshot(w.vm("started"), "one")); backing.ChangeId == "" {
			w.Fatal("a start did not start tracking")
		}
	})
}

func TestSnapshotsFromBeforeHideWhatIsInUse(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("snapshot", say{"machine": w.first, "name": "somebody's"})
		w.tracking(w.first, true)
		w.snapshot(vm, "stun")
		two := w.snapshot(vm, "two")
		disk, _ := w.frozenDisk(two)
		_, err := w.changed(vm, &two, disk.Key, 0, "*")
		faults[*types.FileFault](w, err)
	})
}

func TestWhatIsInUseCanBeUnknown(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.tracked(w.first)
		one := w.snapshot(vm, "one")
		disk, _ := w.frozenDisk(one)
		w.control("settings", say{"allocated": "fault"})
		_, err := w.changed(vm, &one, disk.Key, 0, "*")
		faults[*types.FileFault](w, err)
		w.control("settings", say{"allocated": "whole"})
		areas, _ := w.all(vm, one, "*")
		if want := []types.DiskChangeExtent{{Start: 0, Length: diskSize}}; !slices.Equal(areas, want) {
			w.Fatalf("in use are %v, not %v", areas, want)
		}
	})
}

func TestPagesAndAnswersWithoutLength(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.tracked(w.first)
		for i := range int64(7) {
			w.write(w.first, i*2*mib, []byte{1})
		}
		one := w.snapshot(vm, "one")
		w.control("settings", say{"page": 3})
		areas, pages := w.all(vm, one, "*")
		same(w, "number of areas", len(areas), 7)
		same(w, "number of pages", pages, 3)
		w.control("settings", say{"zero_answers": 1})
		disk, _ := w.frozenDisk(one)
		page, err := w.changed(vm, &one, disk.Key, 0, "*")
		w.ok(err)
		same(w, "length", page.Length, 0)
		page, err = w.changed(vm, &one, disk.Key, 0, "*")
		w.ok(err)
		if page.Length == 0 {
			w.Fatal("more answers without length than asked for")
		}
	})
}

func TestBadQuestionsAreRefused(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.tracked(w.first)
		one := w.snapshot(vm, "one")
		disk, backing := w.frozenDisk(one)
		for what, ask := range map[string]struct {
			key  int32
			from int64
			id   string
		}{
			"changeId":    {disk.Key, 0, "00 00/1"},
			"deviceKey":   {disk.Key + 9, 0, backing.ChangeId},
			"startOffset": {disk.Key, diskSize, backing.ChangeId},
		} {
			_, err := w.changed(vm, &one, ask.key, ask.from, ask.id)
			same(w, "the bad property", faults[*types.InvalidArgument](w, err).InvalidProperty, what)
		}
		other := w.snapshot(w.vm(w.second), "untracked")
		_, err := w.changed(w.vm(w.second), &other, disk.Key, 0, "*")
		faults[*types.FileFault](w, err)
		// Without a snapshot only a machine that is off may be asked.
		_, err = w.changed(vm, nil, disk.Key, 0, backing.ChangeId)
		faults[*types.FileLocked](w, err)
		w.write(w.first, 3*mib, []byte{1})
		w.ends(vm.PowerOff(w.ctx))
		page, err := w.changed(vm, nil, disk.Key, 0, backing.ChangeId)
		w.ok(err)
		if want := []types.DiskChangeExtent{{Start: 3 * mib, Length: grain}}; !slices.Equal(page.ChangedArea, want) {
			w.Fatalf("changed are %v, not %v", page.ChangedArea, want)
		}
	})
}

func TestTheUuidChanges(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.tracked(w.first)
		last := ""
		next := func(why string, changes bool) {
			w.Helper()
			one := w.snapshot(vm, "after "+why)
			_, backing := w.frozenDisk(one)
			uuid, _, ok := parseChangeId(backing.ChangeId)
			same(w, "having a changeId after "+why, ok, true)
			same(w, "a new UUID after "+why, uuid != last, changes)
			last = uuid
			w.remove(vm, one, false)
		}
		next("the start", true)
		next("nothing", false)
		w.control("cbt-reset", say{"machine": w.first})
		next("a lost file", true)
		w.control("power-loss", say{"machine": w.first})
		w.ends(vm.PowerOn(w.ctx))
		next("a power loss", true)
		w.control("settings", say{"reset_on_power_loss": false})
		w.control("power-loss", say{"machine": w.first})
		w.ends(vm.PowerOn(w.ctx))
		next("a power loss that keeps it", false)

		one := w.snapshot(vm, "one")
		w.ends(vm.RevertToSnapshot(w.ctx, one.Value, false))
		w.remove(vm, one, false)
		next("a revert", true)
		w.tracking(w.first, false)
		w.remove(vm, w.snapshot(vm, "stun"), false)
		w.tracking(w.first, true)
		w.remove(vm, w.snapshot(vm, "stun"), false)
		next("off and on", true)
	})
}

// As a proxy or a master target that has a disk for a while loses its .ctk.
func TestAnotherMachineEndsTracking(t *testing.T) {
	inBoth(t, func(w *world) {
		vm, other := w.tracked(w.first), w.vm(w.second)
		before, _, _ := parseChangeId(w.disksOf(w.first)[0].ChangeId)
		w.ends(vm.PowerOff(w.ctx))
		w.attach(other, w.disksOf(w.first)[0].Vmdk, "persistent")
		devices, err := other.Device(w.ctx)
		w.ok(err)
		w.ends(other.PowerOff(w.ctx))
		w.ends(other.PowerOn(w.ctx))
		w.ok(other.RemoveDevice(w.ctx, true, disksIn(devices)[1]))
		w.ends(vm.PowerOn(w.ctx))
		after, _, ok := parseChangeId(w.disksOf(w.first)[0].ChangeId)
		same(w, "having a changeId", ok, true)
		same(w, "the UUID", after == before, false)
	})
}
