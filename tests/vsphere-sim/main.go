// vsphere-sim serves VMware's own simulator (govmomi) with what it lacks, as one vCenter or one ESXi host.
//
// It is a test server: it shows neither real quiescing, stuns, locks of VMFS, VDDK nor real change tracking. The
// README says what is VMware's code and what is ours.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fail(err)
	}
	// Before anything is made, so that a signal never leaves it behind.
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	s, err := start(o)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(s.ready()); err != nil {
		s.close()
		fail(err)
	}

	orphaned := make(chan struct{})
	go func() {
		// A test that is killed closes this pipe, and leaves no server behind.
		io.Copy(io.Discard, os.Stdin)
		close(orphaned)
	}()
	select {
	case <-end:
	case <-orphaned:
	}
	s.close()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "vsphere-sim:", err)
	os.Exit(1)
}

// options are the command line's.
type options struct {
	listen, mode, apiVersion string
	user, passwordFile       string
	dir                      string
	machines, datastores     int
	diskSize                 int64
	certificate, key         string
	verbose                  bool
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("vsphere-sim", flag.ContinueOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address and port; port 0 takes a free one")
	f.StringVar(&o.mode, "mode", "vcenter", "vcenter or esxi")
	f.StringVar(&o.apiVersion, "api-version", "8.0.3.0", "what about.apiVersion says")
	f.StringVar(&o.user, "user", "admin", "name to log in with")
	f.StringVar(&o.passwordFile, "password-file", "", "file whose first line is the password (required)")
	f.StringVar(&o.dir, "dir", "", "folder of the datastores: made new, removed at the end; by default a temporary one")
	f.IntVar(&o.machines, "machines", 2, "number of running machines to begin with")
	f.IntVar(&o.datastores, "datastores", 2, "number of datastores")
	f.Int64Var(&o.diskSize, "disk-size", 64<<20, "bytes of each machine's disk, a multiple of 1024")
	f.StringVar(&o.certificate, "certificate", "", "PEM certificate to serve; by default a new one is made")
	f.StringVar(&o.key, "key", "", "PEM key of --certificate")
	f.BoolVar(&o.verbose, "verbose", false, "say on standard error what the simulator logs")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%q is no flag", f.Arg(0))
	case o.mode != "vcenter" && o.mode != "esxi":
		return o, fmt.Errorf("--mode %q: it is vcenter or esxi", o.mode)
	case o.passwordFile == "":
		return o, fmt.Errorf("--password-file is required: a password in an argument can be read by everybody")
	case o.machines < 0:
		return o, fmt.Errorf("--machines %d: it is 0 or more", o.machines)
	case o.datastores < 1:
		return o, fmt.Errorf("--datastores %d: it is 1 or more", o.datastores)
	case o.diskSize < 1024 || o.diskSize%1024 != 0:
		return o, fmt.Errorf("--disk-size %d: it is a positive multiple of 1024", o.diskSize)
	case (o.certificate == "") != (o.key == ""):
		return o, fmt.Errorf("--certificate and --key are given together")
	}
	return o, nil
}

func (o options) password() (string, error) {
	text, err := os.ReadFile(o.passwordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("--password-file %s: its first line is empty", o.passwordFile)
	}
	return line, nil
}
