package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// site is one running simulator: VMware's model, and what this module adds to it.
type site struct {
	options  options
	dir      string
	print    string
	model    *simulator.Model
	service  *simulator.Service
	registry *simulator.Registry
	server   *simulator.Server
	control  *http.Server
	address  string
	client   *vim25.Client

	stores    sync.Map // of *simulator.Datastore, by name
	dial      dial
	open      openDisks
	tracks    tracks
	guests    guests
	devices   deviceLists
	blocks    blockDevices
	faults    callFaults
	refusals  refusals
	delays    delays
	calls     calls
	hosts     silentHosts
	started   starts
	forgotten forgotten
	kept      onceSet // machines whose next removal of a snapshot keeps the files
	http      httpFaults
	tokens    tokens
	versions  sync.Map // the changeVersion that a change was made up by, by machine, while it is asked for
	leases    leases
	ended     chan struct{}
	once      sync.Once
}

// ready is the line that tells a test where everything is.
type ready struct {
	URL        string            `json:"url"`
	Sha256     string            `json:"sha256"`
	Control    string            `json:"control"`
	Datastores map[string]string `json:"datastores"`
}

func start(o options) (*site, error) {
	password, err := o.password()
	if err != nil {
		return nil, err
	}
	leaf, err := certificate(o)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !o.verbose {
		log.SetOutput(io.Discard)
	}
	s := &site{options: o, print: fingerprint(leaf), ended: make(chan struct{})}
	s.dial.now = defaults()
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	if err := s.build(); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.serve(password, leaf); err != nil {
		s.model.Remove()
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, nil
}

func (s *site) makeFolder() (err error) {
	if s.dir = s.options.dir; s.dir == "" {
		s.dir, err = os.MkdirTemp("", "vsphere-sim-")
	} else if s.dir, err = filepath.Abs(s.dir); err == nil {
		if err = os.Mkdir(s.dir, 0o700); err != nil {
			err = fmt.Errorf("--dir is made new, and may not exist: %w", err)
		}
	}
	if err != nil {
		return err
	}
	s.tracks.dir = filepath.Join(s.dir, "tracks")
	return os.Mkdir(s.tracks.dir, 0o700)
}

// build makes the inventory.
func (s *site) build() error {
	if s.options.mode == "esxi" {
		s.model = simulator.ESX()
	} else {
		s.model = simulator.VPX()
		s.model.Pod = 1
	}
	s.model.Machine = 0
	s.model.Datastore = s.options.datastores
	about := &s.model.ServiceContent.About
	about.ApiVersion = s.options.apiVersion
	about.Version = s.options.apiVersion
	// The model takes its folder from this variable alone.
	before, had := os.LookupEnv("TMPDIR")
	os.Setenv("TMPDIR", s.dir)
	err := s.model.Create()
	if os.Unsetenv("TMPDIR"); had {
		os.Setenv("TMPDIR", before)
	}
	if err != nil {
		return err
	}
	s.service, s.registry = s.model.Service, s.model.Service.Context.Map
	// While a task is delayed, its machine can be read.
	simulator.TaskDelay.MethodDelay = map[string]int{"LockHandoff": 0}
	s.registry.AddHandler(&watcher{site: s})
	s.registry.Handler = s.intercept
	s.addAutoStart()
	for _, entity := range s.registry.All("Datastore") {
		entity.(*simulator.Datastore).Summary.Type = string(types.HostFileSystemVolumeFileSystemTypeVMFS)
	}
	if s.client, err = vim25.NewClient(own(), s.service); err != nil {
		return err
	}
	return s.populate(own())
}

// serve opens the two listeners: the site's own, over TLS, and the control's.
func (s *site) serve(password string, leaf tls.Certificate) (err error) {
	defer func() {
		// The library panics where it cannot listen.
		if why := recover(); why != nil {
			err = fmt.Errorf("--listen %s: %v", s.options.listen, why)
		}
	}()
	s.service.RegisterEndpoints = true
	s.service.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12}
	s.service.Listen = &url.URL{Host: s.options.listen, User: url.UserPassword(s.options.user, password)}
	s.server = s.service.NewServer()
	s.tokens.rest = s.service.ServeMux
	s.server.Config.Handler = s.front()
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.server.CloseClientConnections()
		s.server.Close()
		return err
	}
	s.address = listener.Addr().String()
	s.control = &http.Server{Handler: s.controls()}
	go s.control.Serve(listener)
	return nil
}

func (s *site) ready() ready {
	found := make(map[string]string)
	for _, d := range s.registry.All("Datastore") {
		store := d.(*simulator.Datastore)
		found[store.Name] = store.Info.GetDatastoreInfo().Url
	}
	u := *s.server.URL
	u.User = nil
	return ready{u.String(), s.print, "http://" + s.address + "/control", found}
}

// close stops both servers at once and removes every file.
func (s *site) close() {
	s.once.Do(func() {
		close(s.ended)
		s.control.Close()
		s.server.CloseClientConnections()
		closed := make(chan struct{})
		go func() { s.server.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(2 * time.Second):
		}
		s.model.Remove()
		os.RemoveAll(s.dir)
	})
}

// ctx is a context of its own, so that locks taken with it exclude everybody else.
func (s *site) ctx() *simulator.Context {
	own := *s.service.Context
	return &own
}

// update changes properties of an object whose lock is held, and tells whoever waits for them.
func (s *site) update(object mo.Reference, changes ...types.PropertyChange) {
	s.registry.Update(s.ctx(), object, changes)
}

func set(name string, value types.AnyType) types.PropertyChange {
	return types.PropertyChange{Name: name, Val: value}
}
