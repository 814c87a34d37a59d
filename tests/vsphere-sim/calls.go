package main

import (
	"maps"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// calls counts what clients asked for, so that a test can say how much was needed.
type calls struct {
	mu    sync.Mutex
	count tally
}

type tally struct {
	Soap        map[string]int `json:"soap"`         // by method
	FolderReads int            `json:"folder_reads"` // GET requests
	FolderBytes int64          `json:"folder_bytes"` // of their answers
	Rest        int            `json:"rest"`         // requests below /api and /rest
}

func (c *calls) soap(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count.Soap == nil {
		c.count.Soap = make(map[string]int)
	}
	c.count.Soap[method]++
}

func (c *calls) read(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.FolderReads++
	c.count.FolderBytes += bytes
}

func (c *calls) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Rest++
}

// take gives the numbers, and begins again at 0 if asked to.
func (c *calls) take(reset bool) tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.count
	now.Soap = maps.Clone(c.count.Soap)
	if reset {
		c.count = tally{}
	}
	return now
}

// delays hold calls back, by SOAP method.
type delays struct {
	mu  sync.Mutex
	all map[string]time.Duration
}

func (d *delays) set(method string, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[string]time.Duration)
	}
	d.all[method] = wait
}

func (d *delays) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = nil
	simulator.TaskDelay.MethodDelay = map[string]int{"LockHandoff": 0}
}

// setTask lets tasks of that name, such as CreateSnapshotEx, run for longer; their machine can be read meanwhile.
func (d *delays) setTask(name string, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A new map, as running tasks read the old one.
	next := maps.Clone(simulator.TaskDelay.MethodDelay)
	next[name] = int(wait.Milliseconds())
	simulator.TaskDelay.MethodDelay = next
}

func (d *delays) wait(method string, ended <-chan struct{}) {
	d.mu.Lock()
	wait := d.all[method]
	d.mu.Unlock()
	if wait == 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-ended:
	}
}
