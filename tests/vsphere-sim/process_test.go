package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the server itself when a test starts this program again.
func TestMain(m *testing.M) {
	if os.Getenv("VSPHERE_SIM_SERVES") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process starts the server as a program.
func process(t *testing.T, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "VSPHERE_SIM_SERVES=yes")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd, in, bufio.NewReader(out)
}

func TestTheProcessEndsWithItsTest(t *testing.T) {
	folder := t.TempDir()
	secret := filepath.Join(folder, "password")
	if err := os.WriteFile(secret, []byte("p\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for how, end := range map[string]func(*exec.Cmd, io.Closer) error{
		"stdin":   func(_ *exec.Cmd, in io.Closer) error { return in.Close() },
		"sigterm": func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGTERM) },
	} {
		dir := filepath.Join(folder, how)
		cmd, in, out := process(t, "--mode", "esxi", "--dir", dir, "--password-file", secret, "--machines", "1")
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var r ready
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for name, path := range r.Datastores {
			if info, err := os.Stat(path); err != nil || !info.IsDir() || !strings.HasPrefix(path, dir) {
				t.Fatalf("datastore %s is at %s: %v", name, path, err)
			}
		}
		if err := end(cmd, in); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s did not end it", how)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Fatalf("%s left %s: %v", how, dir, err)
		}
	}
}

func TestBadArgumentsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"--password-file": {}, "--mode": {"--mode", "kvm", "--password-file", "x"},
		"--machines": {"--machines", "-1", "--password-file", "x"}, "--key": {"--key", "k", "--password-file", "x"},
		"--disk-size": {"--disk-size", "1000", "--password-file", "x"}, "--datastores": {"--datastores", "0", "--password-file", "x"},
	} {
		if _, err := parse(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "p")
	if err := os.WriteFile(secret, []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(options{mode: "esxi", passwordFile: secret, dir: dir}); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("an existing folder: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options{mode: "esxi", passwordFile: secret, dir: filepath.Join(dir, "new"), listen: taken.Addr().String(), datastores: 1}
	if _, err := start(o); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("a port that is taken: %v", err)
	}
	if _, err := os.Stat(o.dir); !os.IsNotExist(err) {
		t.Errorf("a failed start left its folder: %v", err)
	}
}

func TestTheReadmeNamesEverything(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for verb := range new(site).verbs() {
		names = append(names, verb)
	}
	fields := reflect.TypeFor[settings]()
	for i := range fields.NumField() {
		names = append(names, fields.Field(i).Tag.Get("json"))
	}
	for _, name := range names {
		if !strings.Contains(string(text), "| `"+name+"`") {
			t.Errorf("the README has no row for %s", name)
		}
	}
}
