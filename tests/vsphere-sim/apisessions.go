package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

const (
	sessionHeader = "vmware-api-session-id"
	restSession   = "/rest/com/vmware/cis/session"
)

// tokens are the sessions of the Automation API; VMware's simulator keeps them, and cannot list them.
type tokens struct {
	mu   sync.Mutex
	all  []string
	rest http.Handler
}

func (t *tokens) add(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, id)
}

// expire ends every session.
func (t *tokens) expire() int {
	t.mu.Lock()
	all := t.all
	t.all = nil
	t.mu.Unlock()
	for _, id := range all {
		t.ask("DELETE", restSession, id, nil, nil)
	}
	return len(all)
}

// answer is what a handler of this process said.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(block []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(block)
}

// value is what stands in "value".
func (a *answer) value() json.RawMessage {
	var held struct{ Value json.RawMessage }
	if json.Unmarshal(a.body.Bytes(), &held) != nil {
		return nil
	}
	return held.Value
}

// ask calls VMware's simulator of the Automation API without the network.
func (t *tokens) ask(method, path, session string, from *http.Request, body []byte) *answer {
	r, err := http.NewRequest(method, path, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		panic(err) // the paths are this module's own
	}
	if from != nil {
		r.Header = from.Header.Clone()
	}
	if session != "" {
		r.Header.Set(sessionHeader, session)
	}
	a := &answer{header: http.Header{}}
	t.rest.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	return a
}

func sessionOf(r *http.Request) string {
	if id := r.Header.Get(sessionHeader); id != "" {
		return id
	}
	if cookie, err := r.Cookie(sessionHeader); err == nil {
		return cookie.Value
	}
	return ""
}

func (s *site) authorized(r *http.Request) bool {
	id := sessionOf(r)
	return id != "" && s.tokens.ask("POST", restSession+"?~action=get", id, nil, nil).status == http.StatusOK
}

// login makes a session, which both prefixes accept.
func (s *site) login(r *http.Request) (string, *answer) {
	a := s.tokens.ask("POST", restSession, "", r, nil)
	var id string
	if a.status == http.StatusOK && json.Unmarshal(a.value(), &id) == nil {
		s.tokens.add(id)
	}
	return id, a
}

func (s *site) apiLogin(w http.ResponseWriter, r *http.Request) {
	id, _ := s.login(r)
	if id == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="VAPI endpoint", SIGN realm="VAPI endpoint",Bearer realm="VAPI endpoint"`)
		reply{w, r, false}.fail(http.StatusUnauthorized, "UNAUTHENTICATED", "the name or the password is wrong")
		return
	}
	w.Header().Set(sessionHeader, id)
	reply{w, r, false}.value(http.StatusCreated, id)
}

func (s *site) restLogin(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		s.service.ServeMux.ServeHTTP(w, r)
		return
	}
	_, a := s.login(r)
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	w.Write(a.body.Bytes())
}

func (s *site) apiSession(a reply) {
	said := s.tokens.ask("POST", restSession+"?~action=get", sessionOf(a.r), nil, nil)
	a.value(http.StatusOK, said.value())
}

func (s *site) apiLogout(a reply) {
	s.tokens.ask("DELETE", restSession, sessionOf(a.r), nil, nil)
	a.done()
}
