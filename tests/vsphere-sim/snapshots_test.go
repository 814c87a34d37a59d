package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func (w *world) local(vmdk string) string {
	w.Helper()
	file, _, err := w.site.descriptor(vmdk)
	w.ok(err)
	return file
}

// vmdks are the disk files of a machine's folder.
func (w *world) vmdks(name string) int {
	w.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(w.disksOf(name)[0].File), "*.vmdk"))
	w.ok(err)
	return len(found)
}

func TestASnapshotFreezesBytes(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		before := w.disksOf(w.first)[0]
		w.write(w.first, mib, []byte("old"))
		one := w.snapshot(vm, "one")
		_, frozen := w.frozenDisk(one)
		same(w, "the frozen disk's name", frozen.FileName, before.Vmdk)
		live := w.disksOf(w.first)[0]
		same(w, "the live disk's name", live.Vmdk, strings.Replace(before.Vmdk, ".vmdk", "-000001.vmdk", 1))
		backing := disksIn(w.properties(vm, "config.hardware.device").Config.Hardware.Device)[0].Backing.(*flat)
		same(w, "the parent", backing.Parent.FileName, before.Vmdk)

		w.write(w.first, mib, []byte("new"))
		same(w, "frozen bytes", string(w.bytesAt(w.local(frozen.FileName), mib, 3)), "old")
		two := w.snapshot(vm, "two")
		_, second := w.frozenDisk(two)
		same(w, "the second frozen disk", second.FileName, live.Vmdk)
		w.write(w.first, mib, []byte("top"))
		same(w, "frozen bytes of the second", string(w.bytesAt(w.local(second.FileName), mib, 3)), "new")

		// The first goes: what it froze takes over what the second froze, under the first name.
		w.remove(vm, one, false)
		_, second = w.frozenDisk(two)
		same(w, "the second's disk then", second.FileName, before.Vmdk)
		same(w, "its bytes", string(w.bytesAt(w.local(second.FileName), mib, 3)), "new")
		same(w, "the live bytes", string(w.bytesAt(w.disksOf(w.first)[0].File, mib, 3)), "top")
		w.remove(vm, two, false)
		last := w.disksOf(w.first)[0]
		same(w, "the live disk's name at the end", last.Vmdk, before.Vmdk)
		same(w, "the bytes at the end", string(w.bytesAt(last.File, mib, 3)), "top")
		same(w, "number of disk files", w.vmdks(w.first), 2)
	})
}

func TestRemovingChildrenAndAll(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		for _, all := range []bool{false, true} {
			one := w.snapshot(vm, "one")
			w.snapshot(vm, "two")
			w.snapshot(vm, "three")
			w.write(w.first, 0, []byte("end"))
			if all {
				merge := true
				w.ends(vm.RemoveAllSnapshot(w.ctx, &merge))
			} else {
				w.remove(vm, one, true)
			}
			if w.properties(vm, "snapshot").Snapshot != nil {
				w.Fatal("a snapshot is left")
			}
			same(w, "number of disk files", w.vmdks(w.first), 2)
			same(w, "bytes", string(w.bytesAt(w.disksOf(w.first)[0].File, 0, 3)), "end")
		}
	})
}

func TestARevertBringsTheBytesBack(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.write(w.first, mib, []byte("old"))
		one := w.snapshot(vm, "one")
		w.write(w.first, mib, []byte("new"))
		w.ends(vm.RevertToSnapshot(w.ctx, one.Value, false))
		same(w, "bytes", string(w.bytesAt(w.disksOf(w.first)[0].File, mib, 3)), "old")
		same(w, "power", w.properties(vm, "runtime.powerState").Runtime.PowerState, types.VirtualMachinePowerStatePoweredOff)
		same(w, "number of disk files", w.vmdks(w.first), 4)
		w.ends(vm.PowerOn(w.ctx))
		w.write(w.first, mib, []byte("two"))
		w.ends(vm.RevertToCurrentSnapshot(w.ctx, false))
		same(w, "bytes after the current one", string(w.bytesAt(w.disksOf(w.first)[0].File, mib, 3)), "old")
		w.remove(vm, one, false)
		same(w, "number of disk files at the end", w.vmdks(w.first), 2)
	})
}

func TestConsolidationIsNeededAndDone(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		needed := func() bool {
			return w.properties(vm, "runtime.consolidationNeeded").Runtime.ConsolidationNeeded
		}
		one := w.snapshot(vm, "one")
		w.write(w.first, 0, []byte("end"))
		w.control("settings", say{"keep_deltas": true})
		w.remove(vm, one, false)
		same(w, "consolidationNeeded", needed(), true)
		same(w, "number of disk files", w.vmdks(w.first), 4)
		w.control("settings", say{"keep_deltas": false})
		w.consolidate(vm.Reference())
		same(w, "consolidationNeeded afterwards", needed(), false)
		same(w, "number of disk files afterwards", w.vmdks(w.first), 2)
		same(w, "bytes", string(w.bytesAt(w.disksOf(w.first)[0].File, 0, 3)), "end")

		// A proxy that still has the frozen disk keeps it from being merged.
		one = w.snapshot(vm, "one")
		_, frozen := w.frozenDisk(one)
		proxy := w.vm(w.second)
		w.attach(proxy, frozen.FileName, string(types.VirtualDiskModeIndependent_nonpersistent))
		w.remove(vm, one, false)
		same(w, "consolidationNeeded with a proxy", needed(), true)
		endsWith[*types.FileLocked](w, w.consolidating(vm.Reference()), nil)
		devices, err := proxy.Device(w.ctx)
		w.ok(err)
		w.ok(proxy.RemoveDevice(w.ctx, true, disksIn(devices)[1]))
		w.consolidate(vm.Reference())
		same(w, "consolidationNeeded without", needed(), false)
	})
}

func TestLocks(t *testing.T) {
	inBoth(t, func(w *world) {
		owner, other := w.vm(w.first), w.vm(w.second)
		own := w.disksOf(w.first)[0]
		task, err := w.tryAttach(other, own.Vmdk, "persistent")
		endsWith[*types.FileLocked](w, task, err)
		w.ends(owner.PowerOff(w.ctx))
		w.attach(other, own.Vmdk, "persistent")
		task, err = owner.PowerOn(w.ctx)
		endsWith[*types.FileLocked](w, task, err)
		w.control("settings", say{"disk_locks": false})
		w.ends(owner.PowerOn(w.ctx))
	})
}

func TestQuiesceAndShutdownNeedTools(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("tools", say{"machine": w.first, "running": false})
		same(w, "tools", w.properties(vm, "guest.toolsRunningStatus").Guest.ToolsRunningStatus, "guestToolsNotRunning")
		task, err := vm.CreateSnapshot(w.ctx, "quiesced", "", false, true)
		endsWith[*types.ApplicationQuiesceFault](w, task, err)
		if w.properties(vm, "snapshot").Snapshot != nil {
			w.Fatal("the failed snapshot exists")
		}
		w.snapshot(vm, "plain")
		faults[*types.ToolsUnavailable](w, vm.ShutdownGuest(w.ctx))
		w.control("tools", say{"machine": w.first, "running": true})
		w.ends(vm.CreateSnapshot(w.ctx, "quiesced", "", false, true))
	})
}

func TestAShutdownTakesItsTime(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		state := func() types.VirtualMachinePowerState {
			return w.properties(vm, "runtime.powerState").Runtime.PowerState
		}
		w.control("settings", say{"shutdown_never": true})
		w.ok(vm.ShutdownGuest(w.ctx))
		same(w, "power of a guest that hangs", state(), types.VirtualMachinePowerStatePoweredOn)
		w.control("settings", say{"shutdown_never": false, "shutdown_ms": 100})
		w.ok(vm.ShutdownGuest(w.ctx))
		same(w, "power at once", state(), types.VirtualMachinePowerStatePoweredOn)
		w.ok(vm.WaitForPowerState(w.ctx, types.VirtualMachinePowerStatePoweredOff))
	})
}

func TestGrownAndRemovedDisks(t *testing.T) {
	inBoth(t, func(w *world) {
		w.write(w.first, 0, []byte("kept"))
		w.control("disk-grow", say{"machine": w.first, "bytes": 2 * diskSize})
		grown := w.disksOf(w.first)[0]
		same(w, "capacity", grown.Capacity, 2*diskSize)
		info, err := os.Stat(grown.File)
		w.ok(err)
		same(w, "size", info.Size(), 2*diskSize)
		if !bytes.Equal(w.bytesAt(grown.File, 0, 4), []byte("kept")) {
			w.Fatal("growing lost bytes")
		}
		w.control("disk-add", say{"machine": w.first, "bytes": mib})
		added := w.disksOf(w.first)[1]
		w.control("disk-remove", say{"machine": w.first, "key": added.Key})
		same(w, "number of disks", len(w.disksOf(w.first)), 1)
		if _, err := os.Stat(added.File); !os.IsNotExist(err) {
			w.Fatalf("the removed disk's file: %v", err)
		}
	})
}

// While the newer of two is attached elsewhere, nothing is merged; afterwards all is, of each disk.
func TestTheOlderGoesWhileTheNewerIsAttached(t *testing.T) {
	inBoth(t, func(w *world) {
		w.control("machine-create", say{"name": "web", "disks": []int{mib, mib}, "on": true})
		vm, other := w.tracked("web"), w.vm(w.second)
		one := w.snapshot(vm, "one")
		w.write("web", 0, []byte("mid"))
		two := w.snapshot(vm, "two")
		w.write("web", 0, []byte("top"))
		for _, file := range []string{"[LocalDS_0] web/web-000001.vmdk", "[LocalDS_0] web/web_1-000001.vmdk"} {
			w.attach(other, file, "independent_nonpersistent")
		}
		w.remove(vm, one, false)
		endsWith[*types.FileLocked](w, w.consolidating(vm.Reference()), nil)
		devices, err := other.Device(w.ctx)
		w.ok(err)
		w.ok(other.RemoveDevice(w.ctx, true, disksIn(devices)[1], disksIn(devices)[2]))
		_, frozen := w.frozenDisk(two)
		same(w, "frozen bytes", string(w.bytesAt(w.local(frozen.FileName), 0, 3)), "mid")
		w.remove(vm, two, false)
		w.consolidate(vm.Reference())
		same(w, "the number of disk files", w.vmdks("web"), 4)
		same(w, "the bytes at the end", string(w.bytesAt(w.disksOf("web")[0].File, 0, 3)), "top")
	})
}

func (w *world) consolidate(vm types.ManagedObjectReference) {
	w.Helper()
	w.ends(w.consolidating(vm), nil)
}

func (w *world) consolidating(vm types.ManagedObjectReference) *object.Task {
	w.Helper()
	answer, err := methods.ConsolidateVMDisks_Task(w.ctx, w.client, &types.ConsolidateVMDisks_Task{This: vm})
	w.ok(err)
	return object.NewTask(w.client.Client, answer.Returnval)
}
