package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/url"
	"os"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

func TestInventoryHasRealDisks(t *testing.T) {
	inBoth(t, func(w *world) {
		about := w.client.ServiceContent.About
		same(w, "apiVersion", about.ApiVersion, "8.0.3.0")
		vms, err := w.find.VirtualMachineList(w.ctx, "*")
		w.ok(err)
		same(w, "number of machines", len(vms), 2)
		for _, name := range []string{w.first, w.second} {
			vm := w.properties(w.vm(name), "config.hardware.device", "runtime.powerState", "guest.toolsRunningStatus")
			same(w, "power", vm.Runtime.PowerState, types.VirtualMachinePowerStatePoweredOn)
			same(w, "tools", vm.Guest.ToolsRunningStatus, "guestToolsRunning")
			disk := disksIn(vm.Config.Hardware.Device)[0]
			same(w, "capacity", disk.CapacityInBytes, diskSize)
			if disk.Backing.(*flat).Uuid == "" {
				w.Fatal("the disk has no uuid")
			}
			info, err := os.Stat(w.disksOf(name)[0].File)
			w.ok(err)
			same(w, "size of the flat file", info.Size(), diskSize)
		}
	})
}

func TestCertificateIsAPinnableLeaf(t *testing.T) {
	w := begin(t, "esxi")
	u, err := url.Parse(w.ready.URL)
	w.ok(err)
	c, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
	w.ok(err)
	defer c.Close()
	leaf := c.ConnectionState().PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	same(w, "fingerprint", hex.EncodeToString(sum[:]), w.ready.Sha256)
	same(w, "being an authority", leaf.IsCA, false)
	w.ok(leaf.VerifyHostname("127.0.0.1"))
}

func TestWrongPasswordIsRefused(t *testing.T) {
	inBoth(t, func(w *world) {
		u, err := url.Parse(w.ready.URL)
		w.ok(err)
		u.User = url.UserPassword(user, "wrong")
		_, err = govmomi.NewClient(w.ctx, u, true)
		faults[*types.InvalidLogin](w, err)
	})
}

func TestAttachedDiskHasItsCapacity(t *testing.T) {
	inBoth(t, func(w *world) {
		w.control("machine-create", say{"name": "left behind", "disks": []int{5 * mib}})
		held := w.disksOf("left behind")[0]
		vm := w.vm(w.first)
		w.attach(vm, held.Vmdk, "persistent")
		disks := w.disksOf(w.first)
		same(w, "number of disks", len(disks), 2)
		same(w, "capacity", disks[1].Capacity, 5*mib)
		same(w, "file", disks[1].File, held.File)
		same(w, "uuid", disks[1].Uuid, held.Uuid)
	})
}

// attachment is an existing disk at the machine's controller, of no size, as a client sends it.
func (w *world) attachment(vm *object.VirtualMachine, vmdk, mode string) *types.VirtualDisk {
	w.Helper()
	devices, err := vm.Device(w.ctx)
	w.ok(err)
	controller, err := devices.FindDiskController("scsi")
	w.ok(err)
	disk := devices.CreateDisk(controller, types.ManagedObjectReference{}, vmdk)
	disk.Backing.(*flat).DiskMode = mode
	return disk
}

// attach has to succeed.
func (w *world) attach(vm *object.VirtualMachine, vmdk, mode string) {
	w.Helper()
	w.ends(w.tryAttach(vm, vmdk, mode))
}

func (w *world) tryAttach(vm *object.VirtualMachine, vmdk, mode string) (*object.Task, error) {
	w.Helper()
	disk := w.attachment(vm, vmdk, mode)
	return vm.Reconfigure(w.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk},
	}})
}
