package main

import (
	"regexp"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var percent = regexp.MustCompile(`%([0-9A-Fa-f]{2})?`)

// escaped is a name as the inventory keeps it, where / and \ cannot stand in a path. What is escaped stays as it is.
func escaped(name string) string {
	name = percent.ReplaceAllStringFunc(name, func(found string) string {
		if found == "%" {
			return "%25"
		}
		return found
	})
	return strings.NewReplacer("/", "%2f", `\`, "%5c").Replace(name)
}

func (m *machine) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	req.NewName = escaped(req.NewName)
	return m.VirtualMachine.RenameTask(ctx, req)
}
