package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestTasksEndInError(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("task-fault", say{"task": "CreateSnapshot", "machine": w.first, "fault": "InsufficientResourcesFault", "skip": 1, "count": 1})
		one := w.snapshot(vm, "first")
		task, err := vm.CreateSnapshot(w.ctx, "second", "", false, false)
		endsWith[*types.InsufficientResourcesFault](w, task, err)
		w.snapshot(vm, "third")
		same(w, "number of disk files", w.vmdks(w.first), 6)
		// With `after` the work is done, and the answer is an error all the same.
		w.control("task-fault", say{"task": "removeSnapshot", "fault": "Timedout", "count": 1, "after": true})
		task, err = vm.RemoveSnapshot(w.ctx, one.Value, false, nil)
		endsWith[*types.Timedout](w, task, err)
		same(w, "number of snapshots", len(w.site.snapshotsOf(vm.Reference())), 1)
		status, _ := w.ask("task-fault", say{"fault": "NoSuchFault"})
		same(w, "status of a fault that does not exist", status, http.StatusBadRequest)
	})
}

func TestCallsEndInFaults(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("call-fault", say{"method": "PowerOffVM_Task", "fault": "NoPermission", "fields": say{"privilegeId": "VirtualMachine.Interact.PowerOff"}, "count": 1})
		_, err := vm.PowerOff(w.ctx)
		same(w, "privilege", faults[*types.NoPermission](w, err).PrivilegeId, "VirtualMachine.Interact.PowerOff")
		w.ends(vm.PowerOff(w.ctx))
	})
}

func TestFaultsAreLeftUntilTheyAreUsedUp(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		left := func(want int) {
			w.Helper()
			var n int
			w.control("faults-left", say{}, &n)
			same(w, "faults left", n, want)
		}
		left(0)
		w.control("call-fault", say{"method": "PowerOffVM_Task", "fault": "NoPermission", "skip": 1, "count": 1})
		w.control("call-fault", say{"method": "ResetVM_Task", "fault": "NoPermission", "skip": 1, "count": 0})
		w.control("task-fault", say{"task": "powerOn", "fault": "Timedout", "count": 1})
		w.control("http-fault", say{"path": "/sdk", "holds": "CurrentTime", "kind": "status", "status": 503, "count": 1})
		left(4)
		w.ends(vm.PowerOff(w.ctx))
		left(4)
		_, err := vm.PowerOff(w.ctx)
		faults[*types.NoPermission](w, err)
		left(3)
		task, err := vm.PowerOn(w.ctx)
		endsWith[*types.Timedout](w, task, err)
		left(2)
		if _, err := methods.GetCurrentTime(w.ctx, w.client); err == nil {
			w.Fatal("503 is no error")
		}
		left(1)
		// What has no end is never used up.
		w.ends(vm.PowerOn(w.ctx))
		w.ends(vm.Reset(w.ctx))
		_, err = vm.Reset(w.ctx)
		faults[*types.NoPermission](w, err)
		left(1)
		w.control("clear", say{})
		left(0)
	})
}

func TestSoapAnswersAreSpoiled(t *testing.T) {
	inBoth(t, func(w *world) {
		post := func() string {
			body := `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><RetrieveServiceContent xmlns="urn:vim25">` +
				`<_this type="ServiceInstance">ServiceInstance</_this></RetrieveServiceContent></Body></Envelope>`
			answer, err := insecure().Post(w.ready.URL, "text/xml", strings.NewReader(body))
			w.ok(err)
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			w.ok(err)
			return string(text)
		}
		w.control("http-fault", say{"path": "/sdk", "holds": "RetrieveServiceContent", "kind": "body", "body": "<!DOCTYPE x>", "count": 1})
		same(w, "the body", post(), "<!DOCTYPE x>")
		w.control("http-fault", say{"path": "/sdk", "kind": "truncate", "bytes": 100, "count": 1})
		same(w, "length of the truncated XML", len(post()), 100)
		w.control("http-fault", say{"path": "/sdk", "kind": "status", "status": 503})
		same(w, "the text", strings.TrimSpace(post()), "Service Unavailable")
		w.control("clear", say{})
		if !strings.Contains(post(), "rootFolder") {
			w.Fatal("the answer is still spoiled")
		}
	})
}

func TestSessionsExpire(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("sessions-expire", say{})
		_, err := vm.PowerOff(w.ctx)
		faults[*types.NotAuthenticated](w, err)
		// Reading says it in another form: an answer in which every property is missing.
		answer, err := property.DefaultCollector(w.client.Client).RetrieveProperties(w.ctx, types.RetrieveProperties{
			SpecSet: []types.PropertyFilterSpec{{
				ObjectSet: []types.ObjectSpec{{Obj: vm.Reference()}},
				PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}},
			}},
		})
		w.ok(err)
		missing := answer.Returnval[0].MissingSet[0]
		if _, ok := missing.Fault.Fault.(*types.NotAuthenticated); !ok {
			w.Fatalf("missing because of %T", missing.Fault.Fault)
		}
		w.client = w.login()
		same(w, "power", w.properties(vm, "runtime.powerState").Runtime.PowerState, types.VirtualMachinePowerStatePoweredOn)
	})
}

func TestAFreeLicenceRefusesWrites(t *testing.T) {
	w := begin(t, "esxi")
	vm := w.vm(w.first)
	w.control("settings", say{"restricted": true})
	_, err := vm.PowerOff(w.ctx)
	faults[*types.RestrictedVersion](w, err)
	_, err = vm.CreateSnapshot(w.ctx, "one", "", false, false)
	faults[*types.RestrictedVersion](w, err)
	same(w, "what can be read", w.properties(vm, "name").Name, w.first)
	answer, _, err := w.fetch("PUT", w.file("[LocalDS_0] x"), "", strings.NewReader("x"))
	w.ok(err)
	same(w, "status of PUT", answer.StatusCode, http.StatusForbidden)
	w.login()
}

func TestAHostThatDoesNotRespond(t *testing.T) {
	w := begin(t, "vcenter")
	vm := w.vm(w.first)
	w.control("host", say{"host": "DC0_H0", "state": "notResponding"})
	same(w, "connection", w.properties(vm, "runtime.connectionState").Runtime.ConnectionState, types.VirtualMachineConnectionStateDisconnected)
	_, err := vm.PowerOff(w.ctx)
	faults[*types.HostNotConnected](w, err)
	w.control("host", say{"host": "DC0_H0", "state": "connected"})
	w.ends(vm.PowerOff(w.ctx))
}

func TestDelays(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		w.control("delay", say{"method": "CurrentTime", "ms": 150})
		began := time.Now()
		_, err := methods.GetCurrentTime(w.ctx, w.client)
		w.ok(err)
		if took := time.Since(began); took < 150*time.Millisecond {
			w.Fatalf("a delayed call took %s", took)
		}
		// While a task is delayed, its machine can be read.
		w.control("delay", say{"task": "CreateSnapshotEx", "ms": 400})
		began = time.Now()
		task, err := vm.CreateSnapshot(w.ctx, "one", "", false, false)
		w.ok(err)
		same(w, "power", w.properties(vm, "runtime.powerState").Runtime.PowerState, types.VirtualMachinePowerStatePoweredOn)
		var info mo.Task
		w.ok(w.client.RetrieveOne(w.ctx, task.Reference(), []string{"info.state"}, &info))
		same(w, "state of the task", info.Info.State, types.TaskInfoStateRunning)
		w.ends(task, nil)
		if took := time.Since(began); took < 400*time.Millisecond {
			w.Fatalf("a delayed task took %s", took)
		}
		w.control("clear", say{})
	})
}

func TestPowerFromOutside(t *testing.T) {
	inBoth(t, func(w *world) {
		vm := w.vm(w.first)
		state := func() types.VirtualMachinePowerState {
			return w.properties(vm, "runtime.powerState").Runtime.PowerState
		}
		w.control("power", say{"machine": w.first, "action": "off"})
		same(w, "power", state(), types.VirtualMachinePowerStatePoweredOff)
		status, _ := w.ask("guest-write", say{"machine": w.first, "data": "AA=="})
		same(w, "status of a write of a machine that is off", status, http.StatusBadRequest)
		w.control("power", say{"machine": w.first, "action": "on"})
		w.control("power", say{"machine": w.first, "action": "reset"})
		same(w, "power", state(), types.VirtualMachinePowerStatePoweredOn)
		w.control("machine-destroy", say{"machine": w.first})
		if _, err := w.find.VirtualMachine(w.ctx, w.first); err == nil {
			w.Fatal("the destroyed machine is found")
		}
	})
}
