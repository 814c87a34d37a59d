package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

// verb does one thing to the site. Its body is JSON, and so is what it returns.
type verb func(body []byte) (any, error)

// verbs are all of them, by their name in POST /control/<name>.
func (s *site) verbs() map[string]verb {
	return map[string]verb{
		"settings":        func(b []byte) (any, error) { return s.dial.merge(b) },
		"call-fault":      with(s.callFault),
		"task-fault":      with(s.taskFault),
		"http-fault":      with(s.httpFault),
		"faults-left":     with(func(struct{}) (any, error) { return s.faults.left() + s.refusals.left() + s.http.left(), nil }),
		"delay":           with(s.delay),
		"clear":           with(s.clear),
		"calls":           with(func(c struct{ Reset bool }) (any, error) { return s.calls.take(c.Reset), nil }),
		"sessions":        with(func(struct{}) (any, error) { return s.sessions(), nil }),
		"sessions-expire": with(func(struct{}) (any, error) { return map[string]int{"sessions": s.expire()}, nil }),
		"host":            with(func(c struct{ Host, State string }) (any, error) { return nil, s.hostState(c.Host, c.State) }),
		"datastore":       with(func(c struct{ Name, Type string }) (any, error) { return nil, s.datastoreType(c.Name, c.Type) }),
		"tools":           with(s.tools),
		"power":           with(s.power),
		"starts":          with(s.startsOf),
		"events-forget":   with(func(struct{}) (any, error) { s.forgotten.now(); return nil, nil }),
		"power-loss":      with(s.powerLoss),
		"cbt-reset":       with(s.trackingReset),
		"snapshot":        with(s.foreignSnapshot),
		"snapshot-remove": with(s.snapshotRemove),
		"machine-create":  with(s.machineCreate),
		"machine-destroy": with(s.machineDestroy),
		"disks":           with(s.diskFiles),
		"disk-add":        with(s.diskAdd),
		"disk-grow":       with(s.diskGrow),
		"disk-remove":     with(s.diskRemove),
		"guest-write":     with(s.guestWrite),
		"block-devices":   with(s.showDevices),
	}
}

// with reads the body into what a verb takes; a field that it does not know is an error.
func with[T any](run func(T) (any, error)) verb {
	return func(body []byte) (any, error) {
		var asked T
		if len(bytes.TrimSpace(body)) > 0 {
			read := json.NewDecoder(bytes.NewReader(body))
			read.DisallowUnknownFields()
			if err := read.Decode(&asked); err != nil {
				return nil, err
			}
		}
		return run(asked)
	}
}

// controls serves the verbs on a listener of its own; GET /control lists their names.
func (s *site) controls() http.Handler {
	verbs := s.verbs()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(slices.Sorted(maps.Keys(verbs)))
	})
	mux.HandleFunc("POST /control/{verb}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		run, ok := verbs[r.PathValue("verb")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			json.NewEncoder(w).Encode(map[string]string{"error": "there is no such verb; GET /control lists them"})
			return
		}
		body, err := io.ReadAll(r.Body)
		var result any
		if err == nil {
			result, err = run(body)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			result = map[string]string{"error": err.Error()}
		}
		if result == nil {
			result = struct{}{}
		}
		json.NewEncoder(w).Encode(result)
	})
	return mux
}

func (s *site) taskFault(r refusal) (any, error) {
	if err := r.resolve(); err != nil {
		return nil, err
	}
	s.refusals.add(&r)
	return nil, nil
}

func (s *site) httpFault(f httpFault) (any, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	s.http.add(&f)
	return nil, nil
}

type delaySpec struct {
	Method string `json:"method"` // a call is answered later
	Task   string `json:"task"`   // a task takes longer; its name, such as CreateSnapshotEx
	Millis int    `json:"ms"`
}

func (s *site) delay(d delaySpec) (any, error) {
	wait := time.Duration(d.Millis) * time.Millisecond
	if d.Method != "" {
		s.delays.set(d.Method, wait)
	}
	if d.Task != "" {
		s.delays.setTask(d.Task, wait)
	}
	return nil, nil
}

// clear takes back all faults and delays; settings stay.
func (s *site) clear(struct{}) (any, error) {
	s.service.ClearFaultRules()
	s.faults.clear()
	s.refusals.clear()
	s.http.clear()
	s.delays.clear()
	return nil, nil
}
