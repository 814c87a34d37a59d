package main

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
)

type callFault struct {
	Method     string `json:"method"`     // SOAP name; "" is any
	ObjectType string `json:"objectType"` // such as VirtualMachine; "" is any
	ObjectName string `json:"objectName"` // "" is any
	faultSpec
	Skip        int `json:"skip"`
	Count       int `json:"count"` // 0 is all from then on
	DelayMillis int `json:"delayMs"`
}

// callFault lets calls, not tasks, end in a SOAP fault.
func (s *site) callFault(c callFault) (any, error) {
	if err := c.resolve(); err != nil {
		return nil, err
	}
	any_ := func(text string) string {
		if text == "" {
			return "*"
		}
		return text
	}
	meets := c.Skip + c.Count
	if c.Count == 0 {
		meets = 0
	}
	s.service.AddFaultRule(&simulator.FaultInjectionRule{
		MethodName: any_(c.Method), ObjectType: any_(c.ObjectType), ObjectName: any_(c.ObjectName),
		Probability: 1, FaultType: simulator.FaultTypeCustom, Fault: c.fault(), Message: "asked for by a test",
		SkipCount: c.Skip, MaxCount: c.Count, Delay: c.DelayMillis, Enabled: true,
		InclusionPropertyFilter: s.faults.watch(meets),
	})
	return nil, nil
}

// callFaults knows how many of those asked for are not used up, which VMware's simulator keeps to itself.
type callFaults struct {
	mu   sync.Mutex
	open map[*int]bool // by how many calls are still to meet it
}

// watch is asked about each call that meets a fault, which is used up after so many; after 0, never.
func (c *callFaults) watch(calls int) simulator.FaultFilterCallback {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = make(map[*int]bool)
	}
	c.open[&calls] = true
	return func(mo.Reference) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if calls--; calls == 0 {
			delete(c.open, &calls)
		}
		return true
	}
}

func (c *callFaults) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *callFaults) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = nil
}
