package main

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestAChangeByAnOlderVersionIsRefused(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		note := func(version, value string) types.VirtualMachineConfigSpec {
			return types.VirtualMachineConfigSpec{
				ChangeVersion: version, ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "note", Value: value}},
			}
		}
		held := func() (version, value string) {
			config := w.properties(vm, "config.changeVersion", "config.extraConfig").Config
			for _, option := range config.ExtraConfig {
				if o := option.GetOptionValue(); o.Key == "note" {
					value = o.Value.(string)
				}
			}
			return config.ChangeVersion, value
		}
		first, _ := held()
		w.ends(vm.Reconfigure(w.ctx, note(first, "one")))
		task, err := vm.Reconfigure(w.ctx, note(first, "two"))
		endsWith[*types.ConcurrentAccess](w, task, err)
		second, value := held()
		same(w, "the note", value, "one")
		w.ends(vm.Reconfigure(w.ctx, note(second, "three")))
		w.ends(vm.Reconfigure(w.ctx, note("", "four")))

		// Of two at once by the same version one is refused.
		third, _ := held()
		one, err := vm.Reconfigure(w.ctx, note(third, "five"))
		w.ok(err)
		other, err := vm.Reconfigure(w.ctx, note(third, "six"))
		w.ok(err)
		w.ends(one, nil)
		endsWith[*types.ConcurrentAccess](w, other, nil)
	})
}

func TestARevertTakesSettingsBack(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		note := func(value string) {
			w.ends(vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{
				ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "note", Value: value}},
			}))
		}
		note("before")
		one := w.snapshot(vm, "one")
		note("after")
		w.ends(vm.RevertToSnapshot(w.ctx, one.Value, false))
		for _, option := range w.properties(vm, "config.extraConfig").Config.ExtraConfig {
			if o := option.GetOptionValue(); o.Key == "note" {
				same(w, "the note", o.Value.(string), "before")
				return
			}
		}
		w.Fatal("the note is gone")
	})
}

func TestStartsAreCounted(t *testing.T) {
	inBoth(t, func(w *world) {
		count := func() (n int) {
			w.control("starts", say{"machine": w.first}, &n)
			return n
		}
		same(w, "starts at first", count(), 1)
		w.ends(w.vm(w.first).PowerOff(w.ctx))
		same(w, "starts while it is off", count(), 1)
		w.ends(w.vm(w.first).PowerOn(w.ctx))
		same(w, "starts", count(), 2)
	})
}

func TestAnOldMachineIsNotTracked(t *testing.T) {
	inBoth(t, func(w *world) {
		w.control("machine-create", say{"name": "old", "disks": []int{mib, mib}, "version": "vmx-04", "modes": []string{"", "independent_persistent/shared"}})
		vm := w.vm("old")
		held := w.properties(vm, "capability", "config")
		same(w, "the capability", held.Capability.ChangeTrackingSupported, false)
		second := disksIn(held.Config.Hardware.Device)[1].Backing.(*flat)
		same(w, "the mode", second.DiskMode, "independent_persistent")
		same(w, "the sharing", second.Sharing, "sharingMultiWriter")
		task, err := vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)})
		endsWith[*types.InvalidArgument](w, task, err)
	})
}

// The master target knows a disk by its uuid, whichever state of it is attached.
func TestAStateOfADiskHasItsUuid(t *testing.T) {
	inBoth(t, func(w *world) {
		vm, other := w.vm(w.first), w.vm(w.second)
		uuid := w.disksOf(w.first)[0].Uuid
		w.snapshot(vm, "one")
		two := w.snapshot(vm, "two")
		_, frozen := w.frozenDisk(two)
		w.attach(other, frozen.FileName, "independent_nonpersistent")
		same(w, "the uuid", w.disksOf(w.second)[1].Uuid, uuid)
	})
}

// Also while other machines change theirs: no attaching looks into a machine that it has not locked. The race detector sees it.
func TestAnUuidIsFoundWhileItsMachineChanges(t *testing.T) {
	inBoth(t, func(w *world) {
		vm, other := w.vm(w.first), w.vm(w.second)
		held := w.disksOf(w.first)[0]
		disk := w.attachment(other, held.Vmdk, "independent_nonpersistent")
		found, changed := make(chan string), make(chan struct{})
		go func() {
			for {
				attached := *disk.Backing.(*flat)
				w.site.sameDisks(&types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
					&types.VirtualDeviceConfigSpec{
						Operation: types.VirtualDeviceConfigSpecOperationAdd,
						Device:    &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Backing: &attached}},
					},
				}})
				select {
				case <-changed:
					found <- attached.Uuid
					return
				default:
					if attached.Uuid != held.Uuid {
						found <- attached.Uuid
						return
					}
				}
			}
		}()
		one := w.snapshot(vm, "one")
		w.snapshot(vm, "two")
		w.remove(vm, one, true)
		close(changed)
		same(w, "the uuid", <-found, held.Uuid)
	})
}

// The worst that change tracking does: it goes on after a revert as if nothing had been.
func TestARevertThatIsToldNobody(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.tracked(w.first)
		w.control("settings", say{"reset_on_revert": false, "revert_untold": true})
		theirs := w.snapshot(vm, "theirs")
		w.write(w.first, mib, []byte{1})
		ours := w.snapshot(vm, "ours")
		disk, backing := w.frozenDisk(ours)
		w.ends(vm.RevertToSnapshot(w.ctx, theirs.Value, false))
		w.ends(vm.PowerOn(w.ctx))
		last := w.snapshot(vm, "last")
		page, err := w.changed(vm, &last, disk.Key, 0, backing.ChangeId)
		w.ok(err)
		same(w, "changed areas", len(page.ChangedArea), 0)
		same(w, "the byte", w.bytesAt(w.disksOf(w.first)[0].File, mib, 1)[0], 0)
	})
}
