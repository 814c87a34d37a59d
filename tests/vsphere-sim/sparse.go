package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
)

// grain is the smallest change that is told apart.
const grain = 64 << 10

const (
	seekData = 3
	seekHole = 4
	ficlone  = 0x40049409
)

// extent is a run of bytes.
type extent struct{ start, length int64 }

// data lists the runs of the file that are no holes, widened to whole grains, in order, within size.
func data(f *os.File, size int64) ([]extent, error) {
	var found []extent
	for at := int64(0); at < size; {
		start, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := f.Seek(start, seekHole)
		if err != nil {
			return nil, err
		}
		start, end = start/grain*grain, min((end+grain-1)/grain*grain, size)
		if n := len(found); n > 0 && found[n-1].start+found[n-1].length >= start {
			found[n-1].length = end - found[n-1].start
		} else if start < end {
			found = append(found, extent{start, end - start})
		}
		at = max(end, at+1)
	}
	return found, nil
}

// clone makes a new file with the bytes of another, holes kept, sharing blocks where the file system can.
func clone(from, to string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, out.Fd(), ficlone, in.Fd()); errno != 0 {
		runs, err := data(in, size)
		if err != nil {
			return err
		}
		for _, run := range runs {
			part := io.NewSectionReader(in, run.start, run.length)
			if _, err := io.Copy(io.NewOffsetWriter(out, run.start), part); err != nil {
				return err
			}
		}
	}
	return out.Truncate(size)
}

// differing lists the grains in which two files differ; what lies past an end counts as zeros.
func differing(a, b *os.File, size int64) ([]int64, error) {
	in := make(map[int64]bool)
	var order []int64
	for _, f := range []*os.File{a, b} {
		runs, err := data(f, size)
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			for at := run.start; at < run.start+run.length; at += grain {
				if in[at] {
					continue
				}
				in[at] = true
				same, err := equal(a, b, at)
				if err != nil {
					return nil, err
				}
				if !same {
					order = append(order, at/grain)
				}
			}
		}
	}
	return order, nil
}

func equal(a, b *os.File, at int64) (bool, error) {
	var left, right [grain]byte
	for _, side := range []struct {
		file *os.File
		into []byte
	}{{a, left[:]}, {b, right[:]}} {
		if _, err := side.file.ReadAt(side.into, at); err != nil && err != io.EOF {
			return false, err
		}
	}
	return bytes.Equal(left[:], right[:]), nil
}

// update makes one file equal to another in place, and says which grains it changed.
func update(from, into string, size int64) ([]int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.OpenFile(into, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := out.Truncate(size); err != nil {
		return nil, err
	}
	grains, err := differing(in, out, size)
	if err != nil {
		return nil, err
	}
	for _, g := range grains {
		block := make([]byte, min(grain, size-g*grain))
		if _, err := in.ReadAt(block, g*grain); err != nil && err != io.EOF {
			return nil, err
		}
		if _, err := out.WriteAt(block, g*grain); err != nil {
			return nil, err
		}
	}
	return grains, nil
}

// empty makes a file of zeros of that size, without blocks.
func empty(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}
