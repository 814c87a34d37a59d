package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// newMachine asks for one with an EFI firmware, PVSCSI and one disk.
func (w *world) newMachine(name string) (*object.Task, error) {
	w.Helper()
	folder, err := w.find.DefaultFolder(w.ctx)
	w.ok(err)
	pools, err := w.find.ResourcePoolList(w.ctx, "*/Resources")
	w.ok(err)
	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	w.ok(err)
	disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{}, "")
	disk.CapacityInBytes, disk.CapacityInKB = 3*mib, 3*1024
	devices = append(devices, scsi, disk)
	changes, err := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	w.ok(err)
	return folder.CreateVM(w.ctx, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherLinux64Guest", Firmware: "efi", NumCPUs: 2, MemoryMB: 512,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_1]"}, DeviceChange: changes,
	}, pools[0], nil)
}

func TestAMachineIsMadeOnce(t *testing.T) {
	inBoth(t, func(w *world) {
		w.ends(w.newMachine("복구 'one'"))
		disk := w.disksOf("복구 'one'")[0]
		same(w, "its disk", disk.Vmdk, "[LocalDS_1] 복구 'one'/복구 'one'.vmdk")
		same(w, "its capacity", disk.Capacity, 3*mib)
		same(w, "bytes that can be read", len(w.bytesAt(disk.File, 3*mib-1, 1)), 1)
		task, err := w.newMachine("복구 'one'")
		endsWith[*types.DuplicateName](w, task, err)
		w.control("settings", say{"one_name": false})
		w.ends(w.newMachine("복구 'one'"))
	})
}

func TestARegisteredMachineHasItsDevicesBack(t *testing.T) {
	inBoth(t, func(w *world) {
		w.ends(w.newMachine("away"))
		vm := w.vm("away")
		before := w.properties(vm, "config", "resourcePool")
		w.ends(vm.Rename(w.ctx, "renamed"))
		w.ok(vm.Unregister(w.ctx))
		folder, err := w.find.DefaultFolder(w.ctx)
		w.ok(err)
		pool := object.NewResourcePool(w.client.Client, *before.ResourcePool)
		task, err := folder.RegisterVM(w.ctx, "[LocalDS_1] none/none.vmx", "none", false, pool, nil)
		endsWith[*types.NotFound](w, task, err)
		w.ends(folder.RegisterVM(w.ctx, before.Config.Files.VmPathName, "back", false, pool, nil))
		after := w.properties(w.vm("back"), "config")
		was, is := disksIn(before.Config.Hardware.Device)[0], disksIn(after.Config.Hardware.Device)[0]
		same(w, "its disk", is.Backing.(*flat).FileName, was.Backing.(*flat).FileName)
		same(w, "capacity", is.CapacityInBytes, was.CapacityInBytes)
		same(w, "key", is.Key, was.Key)
		same(w, "uuid", after.Config.Uuid, before.Config.Uuid)
		same(w, "firmware", after.Config.Firmware, "efi")
		w.ends(w.vm("back").PowerOn(w.ctx))
	})
}

func TestControllersAreFull(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		for i := range 2 {
			w.control("machine-create", say{"name": fmt.Sprintf("d%d", i), "disks": []int{mib}})
		}
		place := func(vmdk string, unit int32) (*object.Task, error) {
			disk := w.attachment(vm, vmdk, "persistent")
			disk.UnitNumber = &unit
			return vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
				&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk},
			}})
		}
		for _, unit := range []int32{7, 64, 0} {
			task, err := place("[LocalDS_0] d0/d0.vmdk", unit)
			endsWith[*types.InvalidDeviceSpec](w, task, err)
		}
		w.ends(place("[LocalDS_0] d0/d0.vmdk", 15))
		task, err := place("[LocalDS_0] d1/d1.vmdk", 15)
		endsWith[*types.InvalidDeviceSpec](w, task, err)

		var devices object.VirtualDeviceList
		for i := range 4 {
			scsi, err := devices.CreateSCSIController("pvscsi")
			w.ok(err)
			scsi.GetVirtualDevice().Key = int32(-10 - i)
			scsi.(types.BaseVirtualSCSIController).GetVirtualSCSIController().BusNumber = int32(i + 1)
			devices = append(devices, scsi)
		}
		changes, err := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
		w.ok(err)
		task, err = vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{DeviceChange: changes})
		endsWith[*types.TooManyDevices](w, task, err)
	})
}

func TestStorageOverridesAreKept(t *testing.T) {
	w := begin(t, "vcenter")
	pod, err := w.find.DatastoreCluster(w.ctx, "DC0_POD0")
	w.ok(err)
	vm, no := w.vm(w.first).Reference(), false
	manager := object.NewStorageResourceManager(w.client.Client)
	w.ends(manager.ConfigureStorageDrsForPod(w.ctx, pod, types.StorageDrsConfigSpec{
		VmConfigSpec: []types.StorageDrsVmConfigSpec{{
			ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd},
			Info:            &types.StorageDrsVmConfigInfo{Vm: &vm, Enabled: &no},
		}},
	}, true))
	var got mo.StoragePod
	w.ok(w.client.RetrieveOne(w.ctx, pod.Reference(), []string{"podStorageDrsEntry"}, &got))
	kept := got.PodStorageDrsEntry.StorageDrsConfig.VmConfig
	same(w, "number of overrides", len(kept), 1)
	same(w, "the machine", *kept[0].Vm, vm)
	same(w, "being enabled", *kept[0].Enabled, false)
}

func TestNamesWithSlashesAreEscaped(t *testing.T) {
	inBoth(t, func(w *world) {
		w.control("machine-create", say{"name": `a/b\c "d" 한국 100% %2f`, "disks": []int{mib}})
		found := 0
		vms, err := w.find.ManagedObjectListChildren(w.ctx, w.folderPath())
		w.ok(err)
		for _, one := range vms {
			if one.Object.Reference().Type == "VirtualMachine" {
				if w.properties(one.Object, "name").Name == `a%2fb%5cc "d" 한국 100%25 %2f` {
					found++
				}
			}
		}
		same(w, "machines of that name", found, 1)
		same(w, "its disks", len(w.disksOf(`a/b\c "d" 한국 100% %2f`)), 1)
		w.ends(w.vm(w.first).Rename(w.ctx, "x/y"))
		var listed []diskFile
		w.control("disks", say{"machine": "x/y"}, &listed)
		same(w, "its disks by the new name", len(listed), 1)
	})
}

func (w *world) folderPath() string {
	w.Helper()
	folder, err := w.find.DefaultFolder(w.ctx)
	w.ok(err)
	return folder.InventoryPath
}

func TestDeniedPrivilegesAreSaid(t *testing.T) {
	inBoth(t, func(w *world) {
		w.control("settings", say{"denied": []string{"VirtualMachine.State.CreateSnapshot"}})
		manager := object.NewAuthorizationManager(w.client.Client)
		vm := w.vm(w.first).Reference()
		asked := []string{"VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot"}
		entities := []types.ManagedObjectReference{vm}
		granted, err := manager.HasUserPrivilegeOnEntities(w.ctx, entities, user, asked)
		w.ok(err)
		same(w, "the denied one", granted[0].PrivAvailability[0].IsGranted, false)
		same(w, "the other", granted[0].PrivAvailability[1].IsGranted, true)
		all, err := manager.FetchUserPrivilegeOnEntities(w.ctx, entities, user)
		w.ok(err)
		same(w, "the denied one's place", slices.Contains(all[0].Privileges, asked[0]), false)
		same(w, "the other's place", slices.Contains(all[0].Privileges, asked[1]), true)
	})
}

func TestAutostartIsKept(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.properties(w.vm(w.first), "runtime.host")
		var host mo.HostSystem
		w.ok(w.client.RetrieveOne(w.ctx, *vm.Runtime.Host, []string{"configManager.autoStartManager"}, &host))
		manager := *host.ConfigManager.AutoStartManager
		for _, action := range []string{"powerOn", "none"} {
			_, err := methods.ReconfigureAutostart(w.ctx, w.client, &types.ReconfigureAutostart{
				This: manager,
				Spec: types.HostAutoStartManagerConfig{PowerInfo: []types.AutoStartPowerInfo{{
					Key: vm.Self, StartOrder: -1, StartDelay: -1, WaitForHeartbeat: "no", StartAction: action, StopDelay: -1, StopAction: "none",
				}}},
			})
			w.ok(err)
			var got mo.HostAutoStartManager
			w.ok(w.client.RetrieveOne(w.ctx, manager, []string{"config"}, &got))
			same(w, "number of entries", len(got.Config.PowerInfo), 1)
			same(w, "action", got.Config.PowerInfo[0].StartAction, action)
		}
	})
}

func TestPlacesThatDoNotExistAreRefused(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		task, err := w.tryAttach(vm, "[none] x/x.vmdk", "persistent")
		endsWith[*types.InvalidDatastorePath](w, task, err)
		task, err = w.tryAttach(vm, "[LocalDS_0] x/x.vmdk", "persistent")
		endsWith[*types.FileNotFound](w, task, err)
		var devices object.VirtualDeviceList
		card, err := devices.CreateEthernetCard("vmxnet3", &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "none"},
		})
		w.ok(err)
		changes, err := object.VirtualDeviceList{card}.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
		w.ok(err)
		task, err = vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{DeviceChange: changes})
		endsWith[*types.InvalidDeviceSpec](w, task, err)
	})
}

func TestADiskThatIsGoneOrOpen(t *testing.T) {
	inBoth(t, func(w *world) {
		dc, err := w.find.DefaultDatacenter(w.ctx)
		w.ok(err)
		manager := object.NewVirtualDiskManager(w.client.Client)
		disk := w.disksOf(w.first)[0]
		task, err := manager.DeleteVirtualDisk(w.ctx, disk.Vmdk, dc)
		endsWith[*types.FileLocked](w, task, err)
		w.ends(w.vm(w.first).PowerOff(w.ctx))
		w.ends(manager.DeleteVirtualDisk(w.ctx, disk.Vmdk, dc))
		task, err = w.vm(w.first).PowerOn(w.ctx)
		endsWith[*types.FileNotFound](w, task, err)

		// A disk that takes its place is tracked from the beginning.
		w.tracked(w.second)
		before := w.disksOf(w.second)[0]
		w.ends(w.vm(w.second).PowerOff(w.ctx))
		w.ends(manager.DeleteVirtualDisk(w.ctx, before.Vmdk, dc))
		w.ends(manager.CreateVirtualDisk(w.ctx, before.Vmdk, dc, &types.FileBackedVirtualDiskSpec{CapacityKb: diskSize / 1024}))
		w.ends(w.vm(w.second).PowerOn(w.ctx))
		was, _, _ := parseChangeId(before.ChangeId)
		is, _, ok := parseChangeId(w.disksOf(w.second)[0].ChangeId)
		same(w, "having a changeId", ok, true)
		same(w, "the UUID", is == was, false)
	})
}
