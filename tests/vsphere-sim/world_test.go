package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// world is a simulator and VMware's own client of it.
type world struct {
	*testing.T
	site   *site
	ready  ready
	ctx    context.Context
	client *govmomi.Client
	find   *find.Finder
	first  string // a running machine
	second string // another one
}

const (
	user     = "admin"
	password = "s3cret"
	mib      = 1 << 20
	diskSize = 16 * mib
)

// begin starts a simulator with two running machines; it ends with the test.
func begin(t *testing.T, mode string) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := start(options{
		listen: "127.0.0.1:0", mode: mode, apiVersion: "8.0.3.0", user: user, passwordFile: file,
		machines: 2, datastores: 2, diskSize: diskSize,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	t.Cleanup(cancel)
	w := &world{T: t, site: s, ready: s.ready(), ctx: ctx, first: "DC0_H0_VM0", second: "DC0_C0_RP0_VM0"}
	if mode == "esxi" {
		w.first, w.second = "ha-host_VM0", "ha-host_VM1"
	}
	w.client = w.login()
	w.find = find.NewFinder(w.client.Client)
	dc, err := w.find.DefaultDatacenter(ctx)
	w.ok(err)
	w.find.SetDatacenter(dc)
	return w
}

// inBoth runs a test on a vCenter and on an ESXi host.
func inBoth(t *testing.T, test func(w *world)) {
	for _, mode := range []string{"vcenter", "esxi"} {
		t.Run(mode, func(t *testing.T) { test(begin(t, mode)) })
	}
}

func (w *world) login() *govmomi.Client {
	w.Helper()
	u, err := url.Parse(w.ready.URL)
	w.ok(err)
	u.User = url.UserPassword(user, password)
	c, err := govmomi.NewClient(w.ctx, u, true)
	w.ok(err)
	return c
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func same[T comparable](w *world, what string, got, want T) {
	w.Helper()
	if got != want {
		w.Fatalf("%s is %v, not %v", what, got, want)
	}
}

// ends waits for a task that has to succeed, or that has to end with this fault.
func (w *world) ends(task *object.Task, err error) types.AnyType {
	w.Helper()
	w.ok(err)
	info, err := task.WaitForResult(w.ctx, nil)
	w.ok(err)
	return info.Result
}

func endsWith[F types.BaseMethodFault](w *world, task *object.Task, err error) {
	w.Helper()
	if err == nil {
		err = task.Wait(w.ctx)
	}
	faults[F](w, err)
}

func faults[F types.BaseMethodFault](w *world, err error) F {
	w.Helper()
	var want F
	if err == nil {
		w.Fatalf("it succeeded, and should fail with %T", want)
	}
	if _, ok := fault.As(err, &want); !ok {
		w.Fatalf("it failed with %v, not with %T", err, want)
	}
	return want
}

// control asks the control endpoint, which has to accept it.
func (w *world) control(verb string, asked any, into ...any) {
	w.Helper()
	status, body := w.ask(verb, asked)
	if status != http.StatusOK {
		w.Fatalf("control %s: %s", verb, body)
	}
	for _, one := range into {
		w.ok(json.Unmarshal(body, one))
	}
}

type say = map[string]any

func (w *world) ask(verb string, asked any) (int, []byte) {
	w.Helper()
	text, err := json.Marshal(asked)
	w.ok(err)
	answer, err := http.Post(w.ready.Control+"/"+verb, "application/json", bytes.NewReader(text))
	w.ok(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	w.ok(err)
	return answer.StatusCode, body
}

func (w *world) vm(name string) *object.VirtualMachine {
	w.Helper()
	vm, err := w.find.VirtualMachine(w.ctx, name)
	w.ok(err)
	return vm
}

func (w *world) properties(vm mo.Reference, names ...string) mo.VirtualMachine {
	w.Helper()
	var got mo.VirtualMachine
	w.ok(w.client.RetrieveOne(w.ctx, vm.Reference(), names, &got))
	return got
}

func (w *world) disksOf(name string) []diskFile {
	w.Helper()
	var found []diskFile
	w.control("disks", say{"machine": name}, &found)
	return found
}

// write is the guest of a machine writing to its first disk.
func (w *world) write(name string, offset int64, block []byte) {
	w.Helper()
	w.control("guest-write", say{"machine": name, "offset": offset, "data": base64.StdEncoding.EncodeToString(block)})
}

func (w *world) bytesAt(file string, offset int64, length int) []byte {
	w.Helper()
	f, err := os.Open(file)
	w.ok(err)
	defer f.Close()
	block := make([]byte, length)
	_, err = f.ReadAt(block, offset)
	w.ok(err)
	return block
}

func (w *world) tracking(name string, on bool) {
	w.Helper()
	spec := types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on}
	w.ends(w.vm(name).Reconfigure(w.ctx, spec))
}

func (w *world) snapshot(vm *object.VirtualMachine, name string) types.ManagedObjectReference {
	w.Helper()
	return w.ends(vm.CreateSnapshot(w.ctx, name, "", false, false)).(types.ManagedObjectReference)
}

func (w *world) remove(vm *object.VirtualMachine, snapshot types.ManagedObjectReference, children bool) {
	w.Helper()
	merge := true
	w.ends(vm.RemoveSnapshot(w.ctx, snapshot.Value, children, &merge))
}

// frozenDisk is the first disk as a snapshot holds it.
func (w *world) frozenDisk(snapshot types.ManagedObjectReference) (*types.VirtualDisk, *flat) {
	w.Helper()
	var got mo.VirtualMachineSnapshot
	w.ok(w.client.RetrieveOne(w.ctx, snapshot, []string{"config.hardware.device"}, &got))
	disk := disksIn(got.Config.Hardware.Device)[0]
	return disk, disk.Backing.(*flat)
}

// changed asks for one page.
func (w *world) changed(vm *object.VirtualMachine, snapshot *types.ManagedObjectReference, key int32, from int64, id string) (types.DiskChangeInfo, error) {
	answer, err := methods.QueryChangedDiskAreas(w.ctx, w.client, &types.QueryChangedDiskAreas{
		This: vm.Reference(), Snapshot: snapshot, DeviceKey: key, StartOffset: from, ChangeId: id,
	})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return answer.Returnval, nil
}

// insecure is a client for what is not SOAP.
func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func (w *world) base() string { return strings.TrimSuffix(w.ready.URL, "/sdk") }
