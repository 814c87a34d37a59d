package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// httpFault spoils answers of the site's listener, whatever they are about.
type httpFault struct {
	Path   string `json:"path"`   // prefix, such as /sdk, /folder or /api
	Method string `json:"method"` // "" is any
	Holds  string `json:"holds"`  // text in the request's body or query, such as QueryChangedDiskAreas
	// status, body, hang, reset, short (says more than it sends, then cuts), truncate (sends less, and says so) or
	// whole (a Range is not looked at: 200).
	Kind        string `json:"kind"`
	Status      int    `json:"status"`      // of status and body
	Body        string `json:"body"`        // of body
	ContentType string `json:"contentType"` // of body
	RetryAfter  int    `json:"retryAfter"`  // seconds, of status
	Bytes       int    `json:"bytes"`       // of short and truncate: how many are sent
	DelayMillis int    `json:"delayMs"`     // waited before
	Skip        int    `json:"skip"`        // how many requests go well first
	Count       int    `json:"count"`       // how many are spoiled; 0 is all from then on
}

func (f *httpFault) check() error {
	switch {
	case !strings.HasPrefix(f.Path, "/"):
		return fmt.Errorf("path %q: it begins with /", f.Path)
	case f.Kind == "status" && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d: it is 400 to 599", f.Status)
	case f.Skip < 0 || f.Count < 0 || f.Bytes < 0 || f.DelayMillis < 0:
		return fmt.Errorf("skip, count, bytes and delayMs are 0 or more")
	}
	switch f.Kind {
	case "status", "body", "hang", "reset", "short", "truncate", "whole", "delay":
		return nil
	}
	return fmt.Errorf("kind %q: it is status, body, hang, reset, short, truncate, whole or delay", f.Kind)
}

// httpFaults are those asked for and not used up.
type httpFaults struct {
	mu  sync.Mutex
	all []*httpFault
}

func (h *httpFaults) add(f *httpFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, f)
}

func (h *httpFaults) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

func (h *httpFaults) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = nil
}

func (h *httpFaults) take(r *http.Request) *httpFault {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.all {
		if !strings.HasPrefix(r.URL.Path, f.Path) || f.Method != "" && f.Method != r.Method || !holds(r, f.Holds) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				h.all = append(h.all[:i:i], h.all[i+1:]...)
			}
		}
		return f
	}
	return nil
}

func holds(r *http.Request, text string) bool {
	if text == "" || strings.Contains(r.URL.RawQuery, text) {
		return true
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && bytes.Contains(body, []byte(text))
}

// spoil answers in the server's place, or lets it answer in a spoiled way.
func (s *site) spoil(f *httpFault, w http.ResponseWriter, r *http.Request, next http.Handler) {
	select {
	case <-time.After(time.Duration(f.DelayMillis) * time.Millisecond):
	case <-s.ended:
	}
	switch f.Kind {
	case "status":
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		http.Error(w, http.StatusText(f.Status), f.Status)
	case "body":
		if f.ContentType != "" {
			w.Header().Set("Content-Type", f.ContentType)
		}
		if f.Status != 0 {
			w.WriteHeader(f.Status)
		}
		io.WriteString(w, f.Body)
	case "hang":
		select {
		case <-r.Context().Done():
		case <-s.ended:
		}
	case "reset":
		panic(http.ErrAbortHandler)
	case "whole":
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	case "short":
		next.ServeHTTP(&cutter{ResponseWriter: w, left: f.Bytes, abort: true}, r)
	case "truncate":
		next.ServeHTTP(&cutter{ResponseWriter: w, left: f.Bytes}, r)
	default:
		next.ServeHTTP(w, r)
	}
}

// cutter sends only the beginning of an answer.
type cutter struct {
	http.ResponseWriter
	left    int
	abort   bool
	started bool
}

func (c *cutter) WriteHeader(status int) {
	if !c.started && !c.abort {
		c.Header().Del("Content-Length")
	}
	c.started = true
	c.ResponseWriter.WriteHeader(status)
}

func (c *cutter) Write(block []byte) (int, error) {
	if c.abort && c.Header().Get("Content-Length") == "" && !c.started {
		// Without a length a cut could not be told from the end.
		c.Header().Set("Content-Length", strconv.Itoa(max(len(block), c.left+1)))
	}
	if !c.started {
		c.WriteHeader(http.StatusOK)
	}
	n := min(c.left, len(block))
	if _, err := c.ResponseWriter.Write(block[:n]); err != nil {
		return 0, err
	}
	if c.left -= n; c.left == 0 && c.abort && n < len(block) {
		if flush, ok := c.ResponseWriter.(http.Flusher); ok {
			flush.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return len(block), nil
}
