package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// starts counts how often each machine began to run.
type starts struct {
	mu  sync.Mutex
	all map[types.ManagedObjectReference]int
}

func (c *starts) add(ref types.ManagedObjectReference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[types.ManagedObjectReference]int)
	}
	c.all[ref]++
}

func (c *starts) of(ref types.ManagedObjectReference) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[ref]
}

func (s *site) startsOf(c ofMachine) (any, error) {
	vm, err := s.machine(c.Machine)
	if err != nil {
		return nil, err
	}
	return s.started.of(vm.Self), nil
}

// forgotten is when the server forgot all events; it goes on numbering them, as a vCenter does.
type forgotten struct {
	at atomic.Pointer[time.Time]
}

func (f *forgotten) now() {
	now := time.Now()
	f.at.Store(&now)
}

// asked hides what is forgotten from whoever asks for events.
func (f *forgotten) asked(m *simulator.Method) {
	at := f.at.Load()
	if req, is := m.Body.(*types.CreateCollectorForEvents); is && at != nil {
		req.Filter.Time = &types.EventFilterSpecByTime{BeginTime: at}
	}
}
