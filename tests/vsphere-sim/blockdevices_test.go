package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAGuestSeesItsDisksAsTheyAreNow(t *testing.T) {
	inBoth(t, func(w *world) {
		folder := filepath.Join(w.TempDir(), "devices")
		w.control("block-devices", say{"machine": w.first, "folder": folder})
		// What is seen: the bytes, and the address and the identifier beside them, of each disk that the machine has.
		agree := func(when string) {
			w.Helper()
			disks := w.disksOf(w.first)
			seen, err := os.ReadDir(filepath.Join(folder, "block"))
			w.ok(err)
			same(w, when, len(seen), len(disks))
			shown := make(map[string]string)
			for _, one := range seen {
				bytes, err := os.Readlink(filepath.Join(folder, "dev", one.Name()))
				w.ok(err)
				wwid, err := os.ReadFile(filepath.Join(folder, "block", one.Name(), "device", "wwid"))
				w.ok(err)
				address, err := os.Readlink(filepath.Join(folder, "block", one.Name(), "device"))
				w.ok(err)
				same(w, address, strings.Count(filepath.Base(address), ":"), 3)
				shown[bytes] = strings.TrimSpace(string(wwid))
			}
			for _, disk := range disks {
				same(w, when, shown[disk.File], "naa."+strings.ReplaceAll(strings.ToLower(disk.Uuid), "-", ""))
			}
		}
		agree("at the start")
		w.control("disk-add", say{"machine": w.first, "bytes": mib})
		agree("with another disk")
		snapshot := w.snapshot(w.vm(w.first), "one")
		agree("above a snapshot")
		w.remove(w.vm(w.first), snapshot, false)
		agree("without it")
		w.control("disk-remove", say{"machine": w.first, "key": w.disksOf(w.first)[1].Key})
		agree("without the other disk")
	})
}
