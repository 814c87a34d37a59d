package main

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// QueryChangedDiskAreas answers from the comparisons made at each snapshot. Without a snapshot the machine has to be off.
func (m *machine) QueryChangedDiskAreas(ctx *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := new(methods.QueryChangedDiskAreasBody)
	answer, fault := m.site.changedAreas(m.VirtualMachine, req)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
	} else {
		body.Res = &types.QueryChangedDiskAreasResponse{Returnval: *answer}
	}
	return body
}

func (s *site) changedAreas(vm *simulator.VirtualMachine, req *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	invalid := func(property string) (*types.DiskChangeInfo, types.BaseMethodFault) {
		return nil, &types.InvalidArgument{InvalidProperty: property}
	}
	devices := vm.Config.Hardware.Device
	if req.Snapshot != nil {
		snapshot := s.snapshot(*req.Snapshot)
		if snapshot == nil {
			return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}
		}
		if snapshot.Vm != vm.Self {
			return invalid("snapshot")
		}
		devices = snapshot.Config.Hardware.Device
	}
	disk, ok := object.VirtualDeviceList(devices).FindByKey(req.DeviceKey).(*types.VirtualDisk)
	if !ok {
		return invalid("deviceKey")
	}
	b, ok := disk.Backing.(*flat)
	if !ok {
		return invalid("deviceKey")
	}
	if req.StartOffset < 0 || req.StartOffset >= disk.CapacityInBytes {
		return invalid("startOffset")
	}
	if req.Snapshot == nil && vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		return nil, &types.FileLocked{FileFault: types.FileFault{File: b.FileName}}
	}
	one := s.track(b)
	uuid, until, ok := parseChangeId(b.ChangeId)
	if one == nil || !ok || uuid != one.uuid {
		return nil, &types.FileFault{File: b.FileName}
	}
	if s.dial.takeZero() {
		return &types.DiskChangeInfo{StartOffset: req.StartOffset}, nil
	}
	bytes, _, err := s.descriptor(b.FileName)
	if err != nil {
		return nil, fileFault(b.FileName, err)
	}
	if req.ChangeId == "*" {
		return s.inUse(req, disk, b.FileName, bytes, one.partial)
	}
	uuid, from, ok := parseChangeId(req.ChangeId)
	if !ok || uuid != one.uuid || from < 1 || from > until {
		return invalid("changeId")
	}
	var grains []int64
	for epoch := from + 1; epoch <= min(until, one.epoch); epoch++ {
		grains = append(grains, one.changed[epoch]...)
	}
	if req.Snapshot == nil {
		since, err := compare(bytes, one.seen, disk.CapacityInBytes)
		if err != nil {
			return nil, fileFault(b.FileName, err)
		}
		grains = append(grains, since...)
	}
	slices.Sort(grains)
	var runs []extent
	for _, g := range slices.Compact(grains) {
		runs = append(runs, extent{g * grain, min(grain, disk.CapacityInBytes-g*grain)})
	}
	return page(req.StartOffset, disk.CapacityInBytes, runs, s.dial.get().Page), nil
}

// inUse answers changeId "*": what holds data. Where that is not known, a server refuses, or names the whole disk.
func (s *site) inUse(req *types.QueryChangedDiskAreas, disk *types.VirtualDisk, name, bytes string, partial bool) (*types.DiskChangeInfo, types.BaseMethodFault) {
	d := s.dial.get()
	if d.Allocated == "fault" || partial && d.Allocated == "areas" {
		return nil, &types.FileFault{File: name}
	}
	if d.Allocated == "whole" {
		return page(req.StartOffset, disk.CapacityInBytes, []extent{{0, disk.CapacityInBytes}}, d.Page), nil
	}
	f, err := os.Open(bytes)
	if err != nil {
		return nil, fileFault(name, err)
	}
	defer f.Close()
	runs, err := data(f, disk.CapacityInBytes)
	if err != nil {
		return nil, fileFault(name, err)
	}
	return page(req.StartOffset, disk.CapacityInBytes, runs, d.Page), nil
}

// page joins runs that touch, and cuts the answer after so many areas.
func page(start, capacity int64, runs []extent, most int) *types.DiskChangeInfo {
	answer := &types.DiskChangeInfo{StartOffset: start, Length: capacity - start}
	for _, run := range runs {
		end := run.start + run.length
		if end <= start {
			continue
		}
		from := max(run.start, start)
		n := len(answer.ChangedArea)
		if n > 0 {
			if last := &answer.ChangedArea[n-1]; last.Start+last.Length == from {
				last.Length = end - last.Start
				continue
			}
		}
		if n == most {
			answer.Length = from - start
			break
		}
		answer.ChangedArea = append(answer.ChangedArea, types.DiskChangeExtent{Start: from, Length: end - from})
	}
	return answer
}

func parseChangeId(id string) (uuid string, epoch int, ok bool) {
	uuid, number, ok := strings.Cut(id, "/")
	if !ok {
		return "", 0, false
	}
	epoch, err := strconv.Atoi(number)
	return uuid, epoch, err == nil
}

func compare(a, b string, size int64) ([]int64, error) {
	left, err := os.Open(a)
	if err != nil {
		return nil, err
	}
	defer left.Close()
	right, err := os.Open(b)
	if err != nil {
		return nil, err
	}
	defer right.Close()
	return differing(left, right, size)
}
