package main

import "sync"

// onceSet holds names that are taken out when they are asked for.
type onceSet struct {
	mu    sync.Mutex
	names map[string]bool
}

func (o *onceSet) add(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.names == nil {
		o.names = make(map[string]bool)
	}
	o.names[name] = true
}

func (o *onceSet) take(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	had := o.names[name]
	delete(o.names, name)
	return had
}
