package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

var typeNamed = types.TypeFunc()

// faultSpec names a fault by its VMware type, such as FileLocked, with its fields.
type faultSpec struct {
	Fault  string          `json:"fault"`
	Fields json.RawMessage `json:"fields"` // as govmomi's JSON: {"invalidProperty": "changeId"}

	made types.BaseMethodFault
}

// resolve makes the fault, or says why it cannot.
func (f *faultSpec) resolve() error {
	t, ok := typeNamed(f.Fault)
	if !ok || f.Fault == "" {
		return fmt.Errorf("fault %q: VMware's API has no type of that name", f.Fault)
	}
	value := reflect.New(t)
	made, ok := value.Interface().(types.BaseMethodFault)
	if !ok {
		return fmt.Errorf("fault %q is no fault", f.Fault)
	}
	if len(f.Fields) > 0 {
		if err := json.Unmarshal(f.Fields, value.Interface()); err != nil {
			return fmt.Errorf("fields: %w", err)
		}
	}
	f.made = made
	return nil
}

func (f *faultSpec) fault() types.BaseMethodFault { return f.made }

// contains ignores the case, since VMware writes PowerOffVM, powerOff and PowerOff.
func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(strings.TrimSuffix(part, "_Task")))
}
