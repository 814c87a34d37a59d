package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// settings are what a test can change at any time, by POST /control/settings with only the fields to change.
type settings struct {
	// Changed areas.
	Page             int    `json:"page"`                // areas in one answer
	ZeroAnswers      int    `json:"zero_answers"`        // how many of the next answers have length 0
	Allocated        string `json:"allocated"`           // of changeId "*": areas, fault or whole
	FirstChangeId    bool   `json:"first_change_id"`     // the snapshot that starts tracking has a changeId
	ResetOnRevert    bool   `json:"reset_on_revert"`     // a revert begins a new change UUID
	ResetOnPowerLoss bool   `json:"reset_on_power_loss"` // so does a power loss
	RevertUntold     bool   `json:"revert_untold"`       // without reset_on_revert: what a revert changes is told nobody

	// Guests.
	QuiesceNeedsTools bool `json:"quiesce_needs_tools"` // else a quiesced snapshot succeeds without tools
	ShutdownMillis    int  `json:"shutdown_ms"`         // how long a guest takes to shut down
	ShutdownNever     bool `json:"shutdown_never"`      // it never does

	// Files over HTTPS.
	FolderAuth   bool `json:"folder_auth"`   // a session or a password is needed
	FolderLocked bool `json:"folder_locked"` // disks of running machines answer 500
	FolderDelta  bool `json:"folder_delta"`  // delta files can be read, which no real server offers in this form

	// Rights and writes.
	Denied     []string `json:"denied"`      // privileges that the authorization manager says are not granted
	Restricted bool     `json:"restricted"`  // free ESXi: RestrictedVersion on all of them
	DiskLocks  bool     `json:"disk_locks"`  // FileLocked for disks that somebody else has open
	OneName    bool     `json:"one_name"`    // DuplicateName for a second machine of that name
	KeepDeltas bool     `json:"keep_deltas"` // removed snapshots leave their files: consolidation is needed
}

func defaults() settings {
	return settings{
		Page: 2000, Allocated: "areas", ResetOnRevert: true, ResetOnPowerLoss: true,
		QuiesceNeedsTools: true, FolderAuth: true, FolderLocked: true, DiskLocks: true, OneName: true,
	}
}

// dial holds the settings.
type dial struct {
	mu  sync.Mutex
	now settings
}

func (d *dial) get() settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *dial) merge(change []byte) (settings, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.now
	read := json.NewDecoder(bytes.NewReader(change))
	read.DisallowUnknownFields()
	if err := read.Decode(&next); err != nil {
		return d.now, err
	}
	switch {
	case next.Page < 1:
		return d.now, fmt.Errorf("page %d: it is 1 or more", next.Page)
	case next.ZeroAnswers < 0 || next.ShutdownMillis < 0:
		return d.now, fmt.Errorf("zero_answers and shutdown_ms are 0 or more")
	case next.Allocated != "areas" && next.Allocated != "fault" && next.Allocated != "whole":
		return d.now, fmt.Errorf("allocated %q: it is areas, fault or whole", next.Allocated)
	}
	d.now = next
	return next, nil
}

// takeZero says whether this answer is one of those with length 0.
func (d *dial) takeZero() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now.ZeroAnswers == 0 {
		return false
	}
	d.now.ZeroAnswers--
	return true
}
