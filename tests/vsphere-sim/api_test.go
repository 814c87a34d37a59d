package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"
)

// apiClient is a plain client of the Automation API.
type apiClient struct {
	*world
	token string
}

func (w *world) api() *apiClient {
	w.Helper()
	c := &apiClient{w, ""}
	r, err := http.NewRequest("POST", w.base()+"/api/session", nil)
	w.ok(err)
	r.SetBasicAuth(user, password)
	answer, err := insecure().Do(r)
	w.ok(err)
	defer answer.Body.Close()
	same(w, "status of the login", answer.StatusCode, http.StatusCreated)
	same(w, "who it is by", answer.Header.Get("X-Simulated-By"), "vsphere-sim")
	w.ok(json.NewDecoder(answer.Body).Decode(&c.token))
	return c
}

// call gives the status, and puts the answer into `into`.
func (c *apiClient) call(method, path string, body, into any) int {
	c.Helper()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		c.ok(err)
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(c.ctx, method, c.base()+path, sent)
	c.ok(err)
	r.Header.Set(sessionHeader, c.token)
	answer, err := insecure().Do(r)
	c.ok(err)
	defer answer.Body.Close()
	same(c.world, "who it is by", answer.Header.Get("X-Simulated-By"), "vsphere-sim")
	text, err := io.ReadAll(answer.Body)
	c.ok(err)
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			c.Fatalf("%s %s answered %d %q: %v", method, path, answer.StatusCode, text, err)
		}
	}
	return answer.StatusCode
}

type rows = []map[string]any

func TestApiSessions(t *testing.T) {
	w := begin(t, "vcenter")
	r, err := http.NewRequest("POST", w.base()+"/api/session", nil)
	w.ok(err)
	r.SetBasicAuth(user, "wrong")
	answer, err := insecure().Do(r)
	w.ok(err)
	same(w, "status with a wrong password", answer.StatusCode, http.StatusUnauthorized)

	c := w.api()
	same(w, "status of a list", c.call("GET", "/api/vcenter/vm", nil, nil), http.StatusOK)
	w.control("sessions-expire", say{})
	var refused struct {
		Kind string `json:"error_type"`
	}
	same(w, "status when it is expired", c.call("GET", "/api/vcenter/vm", nil, &refused), http.StatusUnauthorized)
	same(w, "error_type", refused.Kind, "UNAUTHENTICATED")
	c = w.api()
	same(w, "status of the logout", c.call("DELETE", "/api/session", nil, nil), http.StatusNoContent)
	same(w, "status after the logout", c.call("GET", "/api/session", nil, nil), http.StatusUnauthorized)
}

func TestApiIsNotOnAHost(t *testing.T) {
	w := begin(t, "esxi")
	for _, path := range []string{"/api/session", "/api/vcenter/vm", "/rest/com/vmware/cis/session"} {
		answer, _, err := w.fetch("POST", w.base()+path, "", nil)
		w.ok(err)
		same(w, "status of "+path, answer.StatusCode, http.StatusNotFound)
	}
}

func TestApiListsTheInventory(t *testing.T) {
	w := begin(t, "vcenter")
	c := w.api()
	list := func(path string) rows {
		w.Helper()
		var found rows
		same(w, "status of "+path, c.call("GET", path, nil, &found), http.StatusOK)
		return found
	}
	for path, want := range map[string]int{
		"/api/vcenter/vm": 2, "/api/vcenter/host": 4, "/api/vcenter/cluster": 1, "/api/vcenter/datacenter": 1,
		"/api/vcenter/datastore": 2, "/api/vcenter/network": 3, "/api/vcenter/resource-pool": 2,
		"/api/vcenter/folder?type=VIRTUAL_MACHINE":  1,
		"/api/vcenter/host?standalone=true":         1,
		"/api/vcenter/vm?names=" + w.first:          1,
		"/api/vcenter/vm?names=none":                0,
		"/api/vcenter/vm?names=a&names=" + w.second: 1,
		"/api/vcenter/vm?power_states=POWERED_OFF":  0,
		"/api/vcenter/vm?power_states=POWERED_ON":   2,
	} {
		if got := list(path); len(got) != want {
			w.Fatalf("%s lists %d, not %d: %v", path, len(got), want, got)
		}
	}
	cluster := list("/api/vcenter/cluster")[0]["cluster"].(string)
	in := list("/api/vcenter/vm?clusters=" + cluster)
	same(w, "number in the cluster", len(in), 1)
	same(w, "the one in the cluster", in[0]["name"].(string), w.second)
	same(w, "status of an unknown filter", c.call("GET", "/api/vcenter/vm?colour=red", nil, nil), http.StatusBadRequest)

	// VMware's own client sees the same identifiers.
	vm := w.vm(w.first).Reference()
	row := list("/api/vcenter/vm?names=" + w.first)[0]
	same(w, "identifier", row["vm"].(string), vm.Value)
	var info struct {
		Name     string
		Identity map[string]string
		Disks    map[string]struct {
			Capacity int64
			Backing  map[string]string
		}
	}
	same(w, "status of the machine", c.call("GET", "/api/vcenter/vm/"+vm.Value, nil, &info), http.StatusOK)
	disk := w.disksOf(w.first)[0]
	same(w, "capacity", info.Disks[fmt.Sprint(disk.Key)].Capacity, disk.Capacity)
	same(w, "vmdk_file", info.Disks[fmt.Sprint(disk.Key)].Backing["vmdk_file"], disk.Vmdk)
	same(w, "bios_uuid", info.Identity["bios_uuid"], w.properties(vm, "config.uuid").Config.Uuid)
	same(w, "status of a machine that is not", c.call("GET", "/api/vcenter/vm/vm-0", nil, nil), http.StatusNotFound)

	var older struct{ Value rows }
	same(w, "status below /rest", c.call("GET", "/rest/vcenter/vm?filter.names.1="+w.first, nil, &older), http.StatusOK)
	same(w, "number below /rest", len(older.Value), 1)
}

func TestApiPower(t *testing.T) {
	w := begin(t, "vcenter")
	c := w.api()
	vm := w.vm(w.first)
	at := "/api/vcenter/vm/" + vm.Reference().Value
	var refused struct {
		Kind string `json:"error_type"`
	}
	same(w, "status of a second start", c.call("POST", at+"/power?action=start", nil, &refused), http.StatusBadRequest)
	same(w, "error_type", refused.Kind, "ALREADY_IN_DESIRED_STATE")
	w.control("tools", say{"machine": w.first, "running": false})
	same(w, "status without tools", c.call("POST", at+"/guest/power?action=shutdown", nil, &refused), http.StatusServiceUnavailable)
	w.control("tools", say{"machine": w.first, "running": true})
	same(w, "status of a shutdown", c.call("POST", at+"/guest/power?action=shutdown", nil, nil), http.StatusNoContent)
	w.ok(vm.WaitForPowerState(w.ctx, types.VirtualMachinePowerStatePoweredOff))
	same(w, "status of a start", c.call("POST", at+"/power?action=start", nil, nil), http.StatusNoContent)
	var state struct{ State string }
	same(w, "status of the state", c.call("GET", at+"/power", nil, &state), http.StatusOK)
	same(w, "state", state.State, "POWERED_ON")
	same(w, "status of a stop", c.call("POST", "/rest/vcenter/vm/"+vm.Reference().Value+"/power/stop", nil, nil), http.StatusOK)
	same(w, "power", w.properties(vm, "runtime.powerState").Runtime.PowerState, types.VirtualMachinePowerStatePoweredOff)
	w.control("call-fault", say{"method": "PowerOnVM_Task", "fault": "NoPermission", "count": 1})
	same(w, "status of a fault", c.call("POST", at+"/power?action=start", nil, nil), http.StatusInternalServerError)
}

func TestTagsAreTheSameBelowApiAndRest(t *testing.T) {
	w := begin(t, "vcenter")
	c := w.api()
	// One category and tag by our form, one by VMware's client in the older form.
	var category, tag string
	same(w, "status of a category", c.call("POST", "/api/cis/tagging/category", say{
		"name": "dr", "description": "", "cardinality": "SINGLE", "associable_types": []string{"VirtualMachine"},
	}, &category), http.StatusCreated)
	same(w, "status of a tag", c.call("POST", "/api/cis/tagging/tag", say{
		"name": "gold", "description": "", "category_id": category,
	}, &tag), http.StatusCreated)
	older := rest.NewClient(w.client.Client)
	w.ok(older.Login(w.ctx, url.UserPassword(user, password)))
	manager := tags.NewManager(older)
	seen, err := manager.GetTagForCategory(w.ctx, "gold", "dr")
	w.ok(err)
	same(w, "the tag's id", seen.ID, tag)
	silver, err := manager.CreateTag(w.ctx, &tags.Tag{Name: "silver", CategoryID: category})
	w.ok(err)
	w.ok(manager.AttachTag(w.ctx, silver, w.vm(w.second).Reference()))

	object := func(name string) say { return say{"type": "VirtualMachine", "id": w.vm(name).Reference().Value} }
	at := "/api/cis/tagging/tag-association"
	same(w, "status of an attachment", c.call("POST", at+"/"+tag+"?action=attach", say{"object_id": object(w.first)}, nil), http.StatusNoContent)
	attached, err := manager.GetAttachedTags(w.ctx, w.vm(w.first).Reference())
	w.ok(err)
	same(w, "what VMware's client sees attached", attached[0].Name, "gold")

	var onObjects []struct {
		Object say      `json:"object_id"`
		Tags   []string `json:"tag_ids"`
	}
	c.call("POST", at+"?action=list-attached-tags-on-objects", say{"object_ids": []any{object(w.first), object(w.second)}}, &onObjects)
	same(w, "number of objects", len(onObjects), 2)
	same(w, "tag of the second", onObjects[1].Tags[0], silver)
	var onTags []struct {
		Tag     string              `json:"tag_id"`
		Objects []map[string]string `json:"object_ids"`
	}
	c.call("POST", at+"?action=list-attached-objects-on-tags", say{"tag_ids": []string{tag}}, &onTags)
	same(w, "object of the tag", onTags[0].Objects[0]["id"], w.vm(w.first).Reference().Value)
	var ids []string
	c.call("POST", "/api/cis/tagging/tag?action=list-tags-for-category", say{"category_id": category}, &ids)
	slices.Sort(ids)
	want := []string{tag, silver}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		w.Fatalf("tags of the category are %v, not %v", ids, want)
	}
	same(w, "status of a detachment", c.call("POST", at+"/"+tag+"?action=detach", say{"object_id": object(w.first)}, nil), http.StatusNoContent)
	c.call("POST", at+"/"+tag+"?action=list-attached-objects", nil, &onTags)
	same(w, "number of objects afterwards", len(onTags), 0)

	same(w, "status of a rename", c.call("PATCH", "/api/cis/tagging/tag/"+tag, say{"name": "golden"}, nil), http.StatusNoContent)
	var named struct{ Name string }
	c.call("GET", "/api/cis/tagging/tag/"+tag, nil, &named)
	same(w, "name", named.Name, "golden")
	same(w, "status of a second one", c.call("POST", "/api/cis/tagging/category", say{"name": "dr"}, nil), http.StatusBadRequest)
	same(w, "status of a deletion", c.call("DELETE", "/api/cis/tagging/tag/"+tag, nil, nil), http.StatusNoContent)
	same(w, "status of what is deleted", c.call("GET", "/api/cis/tagging/tag/"+tag, nil, nil), http.StatusNotFound)
}
