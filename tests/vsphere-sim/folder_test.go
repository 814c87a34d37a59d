package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file is the address of a datastore's file.
func (w *world) file(vmdk string) string {
	dc := "DC0"
	if w.site.options.mode == "esxi" {
		dc = "ha-datacenter"
	}
	store, path, _ := strings.Cut(strings.TrimPrefix(vmdk, "["), "] ")
	at := url.URL{Path: "/folder/" + path, RawQuery: url.Values{"dcPath": {dc}, "dsName": {store}}.Encode()}
	return w.base() + at.String()
}

func flatOf(vmdk string) string { return strings.TrimSuffix(vmdk, ".vmdk") + "-flat.vmdk" }

// fetch asks with a password, and gives status, body and the error of reading it.
func (w *world) fetch(method, address, bytes string, body io.Reader) (*http.Response, []byte, error) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.ctx, method, address, body)
	w.ok(err)
	r.SetBasicAuth(user, password)
	if bytes != "" {
		r.Header.Set("Range", bytes)
	}
	answer, err := insecure().Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	return answer, read, err
}

func TestFolderAsksWhoItIs(t *testing.T) {
	inBoth(t, func(w *world) {
		address := w.file(w.disksOf(w.first)[0].Vmdk)
		answer, err := insecure().Get(address)
		w.ok(err)
		same(w, "status without a session", answer.StatusCode, http.StatusUnauthorized)
		named, _, err := w.fetch("GET", address, "", nil)
		w.ok(err)
		same(w, "status with a password", named.StatusCode, http.StatusOK)
		same(w, "who it is by", named.Header.Get("X-Simulated-By"), "vsphere-sim")

		r, err := http.NewRequestWithContext(w.ctx, "GET", address, nil)
		w.ok(err)
		here, err := url.Parse(w.ready.URL)
		w.ok(err)
		for _, cookie := range w.client.Jar.Cookies(here) {
			r.AddCookie(cookie)
		}
		answer, err = insecure().Do(r)
		w.ok(err)
		same(w, "status with a session", answer.StatusCode, http.StatusOK)
		w.control("sessions-expire", say{})
		answer, err = insecure().Do(r)
		w.ok(err)
		same(w, "status with an expired session", answer.StatusCode, http.StatusUnauthorized)
	})
}

func TestFolderLocksRunningDisksAndDeltas(t *testing.T) {
	inBoth(t, func(w *world) {
		address := w.file(flatOf(w.disksOf(w.first)[0].Vmdk))
		status := func(address string) int {
			answer, _, err := w.fetch("GET", address, "bytes=0-0", nil)
			w.ok(err)
			return answer.StatusCode
		}
		same(w, "status while it runs", status(address), http.StatusInternalServerError)
		w.snapshot(w.vm(w.first), "one")
		same(w, "status under a snapshot", status(address), http.StatusInternalServerError)
		delta := w.file(strings.TrimSuffix(w.disksOf(w.first)[0].Vmdk, ".vmdk") + "-delta.vmdk")
		w.ends(w.vm(w.first).PowerOff(w.ctx))
		same(w, "status when it is off", status(address), http.StatusPartialContent)
		same(w, "status of a delta", status(delta), http.StatusInternalServerError)
		w.ends(w.vm(w.first).PowerOn(w.ctx))
		w.control("settings", say{"folder_locked": false, "folder_delta": true})
		same(w, "status without locks", status(address), http.StatusPartialContent)
		same(w, "status of a delta by setting", status(delta), http.StatusPartialContent)
	})
}

func TestFolderRangesAreStrict(t *testing.T) {
	inBoth(t, func(w *world) {
		w.write(w.first, mib, []byte("here"))
		w.ends(w.vm(w.first).PowerOff(w.ctx))
		address := w.file(flatOf(w.disksOf(w.first)[0].Vmdk))
		for asked, want := range map[string]struct {
			status int
			part   string
			body   string
		}{
			"bytes=1048576-1048579":   {206, "bytes 1048576-1048579/16777216", "here"},
			"bytes=16777215-99999999": {206, "bytes 16777215-16777215/16777216", "\x00"},
			"bytes=-2":                {206, "bytes 16777214-16777215/16777216", "\x00\x00"},
			"bytes=16777216-":         {416, "bytes */16777216", ""},
			"bytes=4-2":               {416, "bytes */16777216", ""},
			"bytes=0-1,4-5":           {416, "bytes */16777216", ""},
			"lines=1-2":               {416, "bytes */16777216", ""},
		} {
			answer, body, err := w.fetch("GET", address, asked, nil)
			w.ok(err)
			same(w, "status of "+asked, answer.StatusCode, want.status)
			same(w, "Content-Range of "+asked, answer.Header.Get("Content-Range"), want.part)
			if want.status == 206 {
				same(w, "body of "+asked, string(body), want.body)
			}
		}
		var counted tally
		w.control("calls", say{"reset": true}, &counted)
		same(w, "number of reads", counted.FolderReads, 3)
		same(w, "bytes read", counted.FolderBytes, 7)
		answer, _, err := w.fetch("HEAD", address, "", nil)
		w.ok(err)
		same(w, "length", answer.ContentLength, diskSize)
	})
}

func TestFolderPutsAndDeletes(t *testing.T) {
	inBoth(t, func(w *world) {
		address := w.file("[LocalDS_1] a folder/한국 '1'.txt")
		answer, _, err := w.fetch("PUT", address, "", strings.NewReader("text"))
		w.ok(err)
		same(w, "status of PUT", answer.StatusCode, http.StatusCreated)
		local := filepath.Join(w.ready.Datastores["LocalDS_1"], "a folder", "한국 '1'.txt")
		held, err := os.ReadFile(local)
		w.ok(err)
		same(w, "what was put", string(held), "text")
		answer, _, err = w.fetch("DELETE", address, "", nil)
		w.ok(err)
		same(w, "status of DELETE", answer.StatusCode, http.StatusNoContent)
		if _, err := os.Stat(local); !os.IsNotExist(err) {
			w.Fatalf("the deleted file: %v", err)
		}
		for address, want := range map[string]int{
			address: http.StatusNotFound,
			w.base() + "/folder/x?dcPath=DC9&dsName=LocalDS_0": http.StatusNotFound,
			w.base() + "/folder/x?dsName=none":                 http.StatusNotFound,
			w.base() + "/folder/%2e%2e/x?dsName=LocalDS_0":     http.StatusBadRequest,
		} {
			answer, _, err = w.fetch("DELETE", address, "", nil)
			w.ok(err)
			same(w, "status of "+address, answer.StatusCode, want)
		}
	})
}

func TestSpoiledAnswers(t *testing.T) {
	inBoth(t, func(w *world) {
		w.ends(w.vm(w.first).PowerOff(w.ctx))
		address := w.file(flatOf(w.disksOf(w.first)[0].Vmdk))
		once := func(more say) {
			more["path"], more["count"] = "/folder", 1
			w.control("http-fault", more)
		}
		read := func() (int, int, error) {
			answer, body, err := w.fetch("GET", address, "bytes=0-999", nil)
			if answer == nil {
				return 0, 0, err
			}
			return answer.StatusCode, len(body), err
		}
		once(say{"kind": "status", "status": 503, "retryAfter": 7})
		answer, _, err := w.fetch("GET", address, "", nil)
		w.ok(err)
		same(w, "status", answer.StatusCode, 503)
		same(w, "Retry-After", answer.Header.Get("Retry-After"), "7")
		once(say{"kind": "whole"})
		status, length, err := read()
		w.ok(err)
		same(w, "answer to a range that is not looked at", fmt.Sprint(status, length), fmt.Sprint(200, diskSize))
		once(say{"kind": "truncate", "bytes": 10})
		status, length, err = read()
		w.ok(err)
		same(w, "truncated answer", fmt.Sprint(status, length), "206 10")
		once(say{"kind": "short", "bytes": 10})
		if status, length, err = read(); err == nil || status != 206 || length != 10 {
			w.Fatalf("short answer: %d, %d bytes, %v", status, length, err)
		}
		once(say{"kind": "reset"})
		if status, _, err = read(); err == nil || status != 0 {
			w.Fatalf("a connection that is cut: %d, %v", status, err)
		}
		once(say{"kind": "hang"})
		r, err := http.NewRequestWithContext(w.ctx, "GET", address, nil)
		w.ok(err)
		patient := insecure()
		patient.Timeout = 200 * time.Millisecond
		if _, err = patient.Do(r); err == nil {
			w.Fatal("a hanging server answered")
		}
		status, length, err = read()
		w.ok(err)
		same(w, "the answer after all that", fmt.Sprint(status, length), "206 1000")
	})
}
