package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
)

// most is the number of machines above which a real vCenter refuses to list them.
const most = 4000

// list is one kind of the inventory.
type list struct {
	kind    string   // of the managed objects
	filter  string   // the query's name for identifiers
	filters []string // further names that the query may have
	row     func(mo.Entity) map[string]any
	keep    func(s *site, e mo.Entity, query url.Values) bool
}

func (s *site) lists() map[string]func(reply) {
	all := map[string]list{
		"vm": {kind: "VirtualMachine", filter: "vms", row: machineRow, keep: keepMachine,
			filters: []string{"power_states", "hosts", "folders", "datacenters", "clusters", "resource_pools"}},
		"host": {kind: "HostSystem", filter: "hosts", row: hostRow, keep: keepHost,
			filters: []string{"folders", "datacenters", "clusters", "connection_states", "standalone"}},
		"datastore":     {kind: "Datastore", filter: "datastores", row: datastoreRow, filters: []string{"datacenters", "folders", "types"}},
		"cluster":       {kind: "ClusterComputeResource", filter: "clusters", row: clusterRow, filters: []string{"datacenters", "folders"}},
		"datacenter":    {kind: "Datacenter", filter: "datacenters", row: plainRow("datacenter"), filters: []string{"folders"}},
		"folder":        {kind: "Folder", filter: "folders", row: folderRow, keep: keepFolder, filters: []string{"type", "parent_folders", "datacenters"}},
		"network":       {kind: "", filter: "networks", row: networkRow, filters: []string{"types", "datacenters", "folders"}},
		"resource-pool": {kind: "ResourcePool", filter: "resource_pools", row: plainRow("resource_pool"), filters: []string{"parent_resource_pools", "datacenters", "hosts", "clusters"}},
	}
	serving := make(map[string]func(reply))
	for kind, one := range all {
		serving[kind] = func(a reply) { s.list(a, one) }
	}
	return serving
}

func (s *site) list(a reply, of list) {
	query := filters(a)
	for name := range query {
		if name != "names" && name != of.filter && !slices.Contains(of.filters, name) {
			a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "there is no filter "+name)
			return
		}
	}
	rows := []map[string]any{}
	for _, e := range s.registry.All(of.kind) {
		if of.kind == "" && networkKind(e) == "" {
			continue
		}
		var row map[string]any
		s.locked(e.Reference(), func() {
			ref := e.Reference().Value
			if chosen(query, of.filter, ref) && chosen(query, "names", nameOf(e)) && s.under(e, query, of.filter) &&
				(of.keep == nil || of.keep(s, e, query)) {
				row = of.row(e)
			}
		})
		if row != nil {
			rows = append(rows, row)
		}
	}
	if of.kind == "VirtualMachine" && len(rows) > most {
		a.fail(http.StatusBadRequest, "UNABLE_TO_ALLOCATE_RESOURCE", "more than 4000 virtual machines match")
		return
	}
	slices.SortFunc(rows, func(x, y map[string]any) int { return strings.Compare(x["name"].(string), y["name"].(string)) })
	a.value(http.StatusOK, rows)
}

// filters reads names=a&names=b, and the older filter.names.1=a&filter.names.2=b.
func filters(a reply) url.Values {
	found := make(url.Values)
	for name, values := range a.r.URL.Query() {
		if older, ok := strings.CutPrefix(name, "filter."); ok && a.nested {
			name, _, _ = strings.Cut(older, ".")
		}
		found[name] = append(found[name], values...)
	}
	return found
}

func chosen(query url.Values, filter, value string) bool {
	values, given := query[filter]
	return !given || slices.Contains(values, value)
}

// under says whether the object is below each container that the query names.
func (s *site) under(e mo.Entity, query url.Values, own string) bool {
	for _, filter := range []string{"folders", "datacenters", "clusters", "parent_folders", "parent_resource_pools"} {
		values, given := query[filter]
		if !given || filter == own {
			continue
		}
		inside := false
		start := e.Entity().Parent
		if vm, ok := e.(*simulator.VirtualMachine); ok && filter == "clusters" {
			start = vm.Runtime.Host
		}
		for parent := start; parent != nil && !inside; {
			inside = slices.Contains(values, parent.Value)
			above, ok := s.registry.Get(*parent).(mo.Entity)
			if !ok {
				break
			}
			parent = above.Entity().Parent
		}
		if !inside {
			return false
		}
	}
	return true
}

func keepMachine(_ *site, e mo.Entity, query url.Values) bool {
	vm := e.(*simulator.VirtualMachine)
	if vm.Runtime.Host == nil || vm.Config == nil {
		return false // it is being made
	}
	pool := ""
	if vm.ResourcePool != nil {
		pool = vm.ResourcePool.Value
	}
	return chosen(query, "power_states", powerState(vm)) && chosen(query, "hosts", vm.Runtime.Host.Value) &&
		chosen(query, "resource_pools", pool)
}

func keepHost(_ *site, e mo.Entity, query url.Values) bool {
	host := e.(*simulator.HostSystem)
	standalone := "true"
	if host.Parent != nil && host.Parent.Type == "ClusterComputeResource" {
		standalone = "false"
	}
	return chosen(query, "standalone", standalone) && chosen(query, "connection_states", connectionState(host))
}

func keepFolder(_ *site, e mo.Entity, query url.Values) bool {
	return chosen(query, "type", folderType(e))
}

func nameOf(e mo.Entity) string {
	switch n := e.(type) {
	case *mo.Network:
		return n.Name
	case *mo.OpaqueNetwork:
		return n.Name
	case *simulator.DistributedVirtualPortgroup:
		return n.Name
	}
	return e.Entity().Name
}
