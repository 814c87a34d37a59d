package main

// The Automation API below /api, and its inventory below /rest, are our own fake: VMware's simulator has only sessions,
// tags and the content library, below /rest. Shapes follow VMware's documentation of 7.0 U2 and later; nothing here
// was compared with a real vCenter.

import (
	"encoding/json"
	"net/http"
	"strings"

	// Registers VMware's own simulator of what it has below /rest.
	_ "github.com/vmware/govmomi/vapi/simulator"
)

// reply is an answer in one of the two shapes: bare below /api, and within "value" below /rest.
type reply struct {
	w      http.ResponseWriter
	r      *http.Request
	nested bool
}

func (a reply) value(status int, v any) {
	if a.nested {
		status, v = http.StatusOK, map[string]any{"value": v}
	}
	a.w.Header().Set("Content-Type", "application/json")
	a.w.WriteHeader(status)
	json.NewEncoder(a.w).Encode(v)
}

func (a reply) done() {
	if a.nested {
		a.w.WriteHeader(http.StatusOK)
	} else {
		a.w.WriteHeader(http.StatusNoContent)
	}
}

// fail is an error as the API writes it, such as NOT_FOUND.
func (a reply) fail(status int, kind, message string) {
	messages := []map[string]any{{"id": "vsphere-sim", "default_message": message, "args": []string{}}}
	body := map[string]any{"error_type": kind, "messages": messages}
	if a.nested {
		body = map[string]any{
			"type":  "com.vmware.vapi.std.errors." + strings.ToLower(kind),
			"value": map[string]any{"messages": messages},
		}
	}
	a.w.Header().Set("Content-Type", "application/json")
	a.w.WriteHeader(status)
	json.NewEncoder(a.w).Encode(body)
}

// api serves everything below /api and /rest; an ESXi host has neither.
func (s *site) api() http.Handler {
	if s.options.mode == "esxi" {
		return http.NotFoundHandler()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/session", s.apiLogin)
	mux.HandleFunc("POST /rest/com/vmware/cis/session", s.restLogin)
	both := func(method, path string, serve func(reply)) {
		for _, prefix := range []string{"/api", "/rest"} {
			mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
				a := reply{w, r, prefix == "/rest"}
				if !s.authorized(r) {
					a.fail(http.StatusUnauthorized, "UNAUTHENTICATED", "there is no such session")
					return
				}
				serve(a)
			})
		}
	}
	apiOnly := func(method, path string, serve func(reply)) {
		mux.HandleFunc(method+" /api"+path, func(w http.ResponseWriter, r *http.Request) {
			a := reply{w, r, false}
			if !s.authorized(r) {
				a.fail(http.StatusUnauthorized, "UNAUTHENTICATED", "there is no such session")
				return
			}
			serve(a)
		})
	}
	apiOnly("GET", "/session", s.apiSession)
	apiOnly("DELETE", "/session", s.apiLogout)
	for kind, list := range s.lists() {
		both("GET", "/vcenter/"+kind, list)
	}
	both("GET", "/vcenter/vm/{vm}", s.apiMachine)
	both("GET", "/vcenter/vm/{vm}/power", s.apiPowerState)
	both("POST", "/vcenter/vm/{vm}/power", s.apiPower)
	both("POST", "/vcenter/vm/{vm}/power/{action}", s.apiPower) // the older form
	apiOnly("GET", "/vcenter/vm/{vm}/guest/power", s.apiGuestState)
	apiOnly("POST", "/vcenter/vm/{vm}/guest/power", s.apiGuestPower)
	s.tagRoutes(apiOnly)
	// The rest is VMware's.
	mux.Handle("/", s.service.ServeMux)
	return mux
}
