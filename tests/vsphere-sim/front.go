package main

import (
	"net/http"
	"strings"
)

// front is what stands before VMware's server: spoiled answers, files of datastores, and the Automation API.
func (s *site) front() http.Handler {
	api := s.api()
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case below(r.URL.Path, "/folder"):
			s.serveFolder(w, r)
		case below(r.URL.Path, "/nfc") && r.Method == http.MethodGet:
			s.serveLease(w, r)
		case below(r.URL.Path, "/api"), below(r.URL.Path, "/rest"):
			s.calls.rest()
			api.ServeHTTP(w, r)
		default:
			s.service.ServeMux.ServeHTTP(w, r)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Simulated-By", "vsphere-sim")
		if f := s.http.take(r); f != nil {
			s.spoil(f, w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	})
}

func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
