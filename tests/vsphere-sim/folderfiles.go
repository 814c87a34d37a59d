package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// serveFolder is /folder/<path>?dcPath=…&dsName=…: files of a datastore, with one strict range each.
func (s *site) serveFolder(w http.ResponseWriter, r *http.Request) {
	if s.dial.get().FolderAuth && !s.loggedIn(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "a session cookie or a password is needed", http.StatusUnauthorized)
		return
	}
	query := r.URL.Query()
	if dc := query.Get("dcPath"); dc != "" && !s.hasDatacenter(dc) {
		http.Error(w, "there is no such datacenter", http.StatusNotFound)
		return
	}
	root, ok := s.datastore(query.Get("dsName"))
	if !ok {
		http.Error(w, "there is no such datastore", http.StatusNotFound)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/folder/")
	if !filepath.IsLocal(path) {
		http.Error(w, "the path leads out of the datastore", http.StatusBadRequest)
		return
	}
	local := filepath.Join(root, path)
	if why := s.lockedFile(fmt.Sprintf("[%s] %s", query.Get("dsName"), path)); why != "" {
		http.Error(w, why, http.StatusInternalServerError)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.readFile(w, r, local)
	case http.MethodPut, http.MethodDelete:
		if s.dial.get().Restricted {
			http.Error(w, "the licence prohibits it", http.StatusForbidden)
			return
		}
		writeFile(w, r, local)
	default:
		http.Error(w, "GET, HEAD, PUT or DELETE", http.StatusMethodNotAllowed)
	}
}

// lockedFile says why a real server would not hand the file out.
func (s *site) lockedFile(name string) string {
	d := s.dial.get()
	for _, ending := range []string{"-flat.vmdk", "-delta.vmdk"} {
		stem, ok := strings.CutSuffix(name, ending)
		if !ok {
			continue
		}
		if ending == "-delta.vmdk" && !d.FolderDelta {
			return "a delta cannot be read as a disk"
		}
		if d.FolderLocked && s.open.running(stem+".vmdk") {
			return "the file is locked by a running machine"
		}
	}
	return ""
}

func (s *site) hasDatacenter(path string) bool {
	for _, dc := range s.registry.All("Datacenter") {
		if dc.Entity().Name == strings.Trim(path, "/") {
			return true
		}
	}
	return false
}

func (s *site) readFile(w http.ResponseWriter, r *http.Request, local string) {
	f, err := os.Open(local)
	if err != nil {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		http.Error(w, "folders are listed by HostDatastoreBrowser", http.StatusForbidden)
		return
	}
	start, length, status := int64(0), info.Size(), http.StatusOK
	if header := r.Header.Get("Range"); header != "" {
		var ok bool
		if start, length, ok = oneRange(header, info.Size()); !ok {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size()))
			http.Error(w, "the range is none of this file's", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, info.Size()))
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	s.calls.read(length)
	io.Copy(w, io.NewSectionReader(f, start, length))
}

// oneRange reads "bytes=a-b", "bytes=a-" or "bytes=-n"; more than one range is refused.
func oneRange(header string, size int64) (start, length int64, ok bool) {
	text, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return 0, 0, false
	}
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, false
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n < 1 || size == 0 {
			return 0, 0, false
		}
		n = min(n, size)
		return size - n, n, true
	}
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil || start < 0 || start >= size {
		return 0, 0, false
	}
	end := size - 1
	if to != "" {
		if end, err = strconv.ParseInt(to, 10, 64); err != nil || end < start {
			return 0, 0, false
		}
	}
	return start, min(end, size-1) - start + 1, true
}

func writeFile(w http.ResponseWriter, r *http.Request, local string) {
	if r.Method == http.MethodDelete {
		err := os.Remove(local)
		if errors.Is(err, fs.ErrNotExist) {
			http.Error(w, "there is no such file", http.StatusNotFound)
		} else if err != nil {
			http.Error(w, "it cannot be deleted", http.StatusInternalServerError)
		} else {
			w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	if r.Header.Get("Content-Range") != "" {
		http.Error(w, "a part of a file cannot be put", http.StatusBadRequest)
		return
	}
	if err := put(local, r.Body); err != nil {
		http.Error(w, "it cannot be written", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func put(local string, body io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(local), 0o700); err != nil {
		return err
	}
	f, err := os.Create(local)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// loggedIn accepts a living SOAP session's cookie, or the name and password.
func (s *site) loggedIn(r *http.Request) bool {
	if cookie, err := r.Cookie("vmware_soap_session"); err == nil {
		for _, key := range s.sessions() {
			if key == strings.Trim(cookie.Value, `"`) {
				return true
			}
		}
	}
	user, password, ok := r.BasicAuth()
	login := types.Login{UserName: user, Password: password}
	return ok && s.registry.SessionManager().Authenticate(*s.service.Listen, &login)
}

// sessions lists the keys of the SOAP sessions that live.
func (s *site) sessions() []string {
	view := simulator.Session{Registry: simulator.NewRegistry(), Map: s.registry}
	manager := view.Get(*s.model.ServiceContent.SessionManager)
	var keys []string
	for _, one := range manager.(*simulator.SessionManager).SessionList {
		keys = append(keys, one.Key)
	}
	return keys
}

// expire ends every session, of both APIs, as an idle timeout or a restarted server does.
func (s *site) expire() int {
	keys := s.sessions()
	ctx := s.ctx()
	ctx.Session = &simulator.Session{Registry: simulator.NewRegistry(), Map: s.registry}
	s.registry.SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: keys})
	return len(keys) + s.tokens.expire()
}
