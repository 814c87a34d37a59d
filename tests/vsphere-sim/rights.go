package main

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rights answers which privileges a user has: all but the denied ones. It enforces none; call-fault does, by NoPermission.
type rights struct {
	*simulator.AuthorizationManager
	site *site
}

func (r *rights) denied(id string) bool { return slices.Contains(r.site.dial.get().Denied, id) }

func (r *rights) limit(all []types.EntityPrivilege) {
	for i := range all {
		for j := range all[i].PrivAvailability {
			one := &all[i].PrivAvailability[j]
			one.IsGranted = one.IsGranted && !r.denied(one.PrivId)
		}
	}
}

func (r *rights) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	body := r.AuthorizationManager.HasPrivilegeOnEntities(req).(*methods.HasPrivilegeOnEntitiesBody)
	if body.Res != nil {
		r.limit(body.Res.Returnval)
	}
	return body
}

func (r *rights) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	body := r.AuthorizationManager.HasUserPrivilegeOnEntities(req).(*methods.HasUserPrivilegeOnEntitiesBody)
	if body.Res != nil {
		r.limit(body.Res.Returnval)
	}
	return body
}

func (r *rights) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	body := r.AuthorizationManager.HasPrivilegeOnEntity(req).(*methods.HasPrivilegeOnEntityBody)
	for i, id := range req.PrivId {
		body.Res.Returnval[i] = body.Res.Returnval[i] && !r.denied(id)
	}
	return body
}

func (r *rights) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := r.AuthorizationManager.FetchUserPrivilegeOnEntities(req).(*methods.FetchUserPrivilegeOnEntitiesBody)
	if body.Res != nil {
		for i := range body.Res.Returnval {
			held := &body.Res.Returnval[i]
			// A copy: the list is the role's own.
			held.Privileges = slices.DeleteFunc(slices.Clone(held.Privileges), r.denied)
		}
	}
	return body
}
