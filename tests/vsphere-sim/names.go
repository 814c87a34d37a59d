package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// escaped is a name as the inventory keeps it: / and \ cannot stand in a path of it, so they are %2f and %5c. A % is the
// client's to escape.
func escaped(name string) string { return strings.NewReplacer("/", "%2f", `\`, "%5c").Replace(name) }

func (m *machine) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	req.NewName = escaped(req.NewName)
	return m.VirtualMachine.RenameTask(ctx, req)
}
