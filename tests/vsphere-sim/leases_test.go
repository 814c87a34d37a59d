package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The export is read by QEMU's own tools, which know the format.
func TestAnExportHoldsTheFrozenDisk(t *testing.T) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("SITE_RECOVERY_PEERS") == "required" {
			t.Fatal("qemu-img is absent")
		}
		t.Skip("SKIPPED qemu-img is absent")
	}
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.write(w.first, 0, []byte("first"))
		w.write(w.first, 5*mib+100, []byte(strings.Repeat("middle", 50_000)))
		w.write(w.first, diskSize-4, []byte("last"))
		one := w.snapshot(vm, "one")
		w.write(w.first, 0, []byte("later"))
		_, frozen := w.frozenDisk(one)

		answer, err := methods.ExportSnapshot(w.ctx, w.client, &types.ExportSnapshot{This: one})
		w.ok(err)
		lease := nfc.NewLease(w.client.Client, answer.Returnval)
		info, err := lease.Wait(w.ctx, nil)
		w.ok(err)
		var address *url.URL
		for _, item := range info.Items {
			if strings.HasSuffix(item.Path, ".vmdk") {
				address = item.URL
				same(w, "key", strings.HasSuffix(item.DeviceId, "/"+w.controller(one)), true)
				same(w, "name", item.Path, "disk-0.vmdk")
			}
		}
		// Such an address needs no session.
		got, err := insecure().Get(address.String())
		w.ok(err)
		defer got.Body.Close()
		same(w, "status", got.StatusCode, http.StatusOK)
		folder := t.TempDir()
		packed, raw := filepath.Join(folder, "disk.vmdk"), filepath.Join(folder, "disk.raw")
		file, err := os.Create(packed)
		w.ok(err)
		_, err = io.Copy(file, got.Body)
		w.ok(err)
		w.ok(file.Close())
		said, err := exec.Command(tool, "convert", "-f", "vmdk", "-O", "raw", packed, raw).CombinedOutput()
		if err != nil {
			w.Fatalf("qemu-img: %v: %s", err, said)
		}
		is, err := os.ReadFile(raw)
		w.ok(err)
		was, err := os.ReadFile(w.local(frozen.FileName))
		w.ok(err)
		same(w, "equality of the disks", string(is) == string(was), true)
		w.ok(lease.Complete(w.ctx))
		got, err = insecure().Get(address.String())
		w.ok(err)
		same(w, "status after the end", got.StatusCode, http.StatusNotFound)
	})
}

// controller names the place of a snapshot's first disk as a real host's lease does.
func (w *world) controller(snapshot types.ManagedObjectReference) string {
	var got mo.VirtualMachineSnapshot
	w.ok(property.DefaultCollector(w.client.Client).RetrieveOne(w.ctx, snapshot, []string{"config.hardware.device"}, &got))
	devices := object.VirtualDeviceList(got.Config.Hardware.Device)
	disk := disksIn(devices)[0]
	switch at := devices.FindByKey(disk.ControllerKey).(type) {
	case *types.ParaVirtualSCSIController:
		return fmt.Sprintf("ParaVirtualSCSIController%d:%d", at.BusNumber, *disk.UnitNumber)
	case *types.VirtualLsiLogicController:
		return fmt.Sprintf("VirtualLsiLogicController%d:%d", at.BusNumber, *disk.UnitNumber)
	default:
		w.Fatalf("the disk hangs at a %T", at)
		return ""
	}
}
