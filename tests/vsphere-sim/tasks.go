package main

import (
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type execute = func(*simulator.Task) (types.AnyType, types.BaseMethodFault)

// around is a task with what VMware's simulator leaves out before and after it, and with the errors asked for.
// The task holds its entity's lock.
func (s *site) around(t *simulator.Task, version string, run execute) execute {
	kind := t.Info.DescriptionId
	return func(t *simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
		defer func() {
			if broken := recover(); broken != nil {
				// One odd request should not end the server under a whole test.
				result, fault = nil, &types.SystemErrorFault{Reason: fmt.Sprint(kind, ": ", broken)}
			}
		}()
		refused := s.refusals.take(s, t)
		if refused != nil && !refused.After {
			return nil, refused.fault()
		}
		switch vm := s.entity(t); kind {
		case "VirtualMachine.createSnapshotEx":
			result, fault = s.snapshotTaken(vm, func() (types.AnyType, types.BaseMethodFault) { return run(t) })
		case "VirtualMachine.removeSnapshot", "VirtualMachine.RemoveAllSnapshots":
			s.onlyStates(vm)
			before := s.links(vm)
			if result, fault = run(t); fault == nil {
				fault = s.snapshotsRemoved(vm, before)
			}
		case "VirtualMachine.reconfigVm":
			if fault = versionFault(vm, version); fault != nil {
				return nil, fault
			}
			if result, fault = run(t); fault == nil {
				fault = s.settle(vm)
			}
		case "Folder.createVm":
			if result, fault = run(t); fault == nil {
				fault = s.settle(s.registry.Get(result.(types.ManagedObjectReference)).(*simulator.VirtualMachine))
			}
		case "VirtualDiskManager.createVirtualDisk", "VirtualDiskManager.extendVirtualDisk":
			if result, fault = run(t); fault == nil {
				fault = s.fill(fmt.Sprint(result))
			}
		default:
			result, fault = run(t)
		}
		if fault == nil && refused != nil {
			return nil, refused.fault()
		}
		return result, fault
	}
}

func (s *site) entity(t *simulator.Task) *simulator.VirtualMachine {
	vm, _ := s.registry.Get(*t.Info.Entity).(*simulator.VirtualMachine)
	return vm
}

// failed is a task that ends at once with this fault, as a server's that accepts a call and then cannot do it.
func failed(ctx *simulator.Context, of mo.Reference, name string, fault types.BaseMethodFault) types.ManagedObjectReference {
	return simulator.CreateTask(of, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, fault
	}).Run(ctx)
}

// await is a task's result. It asks the task itself: a client's waiting is most of the work of making many machines.
func (s *site) await(task *object.Task) (types.AnyType, error) {
	t, ok := s.registry.Get(task.Reference()).(*simulator.Task)
	if !ok {
		return nil, fmt.Errorf("task %s is gone", task.Reference().Value)
	}
	for {
		var info types.TaskInfo
		s.locked(t, func() { info = t.Info })
		switch info.State {
		case types.TaskInfoStateSuccess:
			return info.Result, nil
		case types.TaskInfoStateError:
			return nil, taskError{info.Error.Fault}
		}
		time.Sleep(time.Millisecond)
	}
}

// finish waits for a task that was just asked for.
func (s *site) finish(task *object.Task, err error) error {
	if err == nil {
		_, err = s.await(task)
	}
	return err
}

// taskError is the fault with which a task ended.
type taskError struct{ fault types.BaseMethodFault }

func (e taskError) Error() string                { return strings.TrimPrefix(fmt.Sprintf("%T", e.fault), "*types.") }
func (e taskError) Fault() types.BaseMethodFault { return e.fault }

// refusal makes tasks end in error.
type refusal struct {
	Task    string `json:"task"`    // such as CreateSnapshot, or a part of the descriptionId; "" is any
	Machine string `json:"machine"` // name; "" is any entity
	faultSpec
	Skip  int  `json:"skip"`  // how many run first
	Count int  `json:"count"` // how many fail; 0 is all from then on
	After bool `json:"after"` // the task does its work, and then fails
}

// refusals are those asked for and not used up.
type refusals struct {
	mu  sync.Mutex
	all []*refusal
}

func (r *refusals) take(s *site, t *simulator.Task) *refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, one := range r.all {
		if !contains(t.Info.DescriptionId, one.Task) {
			continue
		}
		if one.Machine != "" && s.open.name(*t.Info.Entity) != escaped(one.Machine) {
			continue
		}
		if one.Skip > 0 {
			one.Skip--
			continue
		}
		if one.Count > 0 {
			if one.Count--; one.Count == 0 {
				r.all = append(r.all[:i:i], r.all[i+1:]...)
			}
		}
		log.Printf("%s ends in error, as asked for", t.Info.DescriptionId)
		return one
	}
	return nil
}

func (r *refusals) add(one *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

func (r *refusals) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

func (r *refusals) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}
