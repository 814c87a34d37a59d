package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// A streamOptimized VMDK: a header, a descriptor, deflated grains in order, their tables, a directory, and the header
// again as a footer, which says where the directory is.

const (
	sector       = 512
	grainSectors = grain / sector
	tableEntries = 512
	streamMagic  = 0x564d444b // "KDMV", little-endian
	unknownPlace = 1<<64 - 1
)

type streamHeader struct {
	Magic, Version, Flags                              uint32
	Capacity, GrainSize, DescriptorAt, Descriptor      uint64
	TableEntries                                       uint32
	RedundantAt, DirectoryAt, Overhead                 uint64
	Unclean, SingleEnd, NonEnd, DoubleEnd1, DoubleEnd2 byte
	Compression                                        uint16
	Padding                                            [433]byte
}

// streamWriter counts sectors.
type streamWriter struct {
	to io.Writer
	at uint64
}

// block writes bytes, filled up to whole sectors.
func (s *streamWriter) block(b []byte) error {
	if rest := len(b) % sector; rest != 0 {
		b = append(b, make([]byte, sector-rest)...)
	}
	s.at += uint64(len(b) / sector)
	_, err := s.to.Write(b)
	return err
}

// marker announces what follows it: 0 the end, 1 a table, 2 the directory, 3 the footer.
func (s *streamWriter) marker(sectors uint64, kind uint32) error {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, sectors)
	binary.Write(&b, binary.LittleEndian, uint32(0))
	binary.Write(&b, binary.LittleEndian, kind)
	return s.block(b.Bytes())
}

func streamOptimized(to io.Writer, file, name string, capacity int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sectors := uint64((capacity + sector - 1) / sector)
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"+
		"RW %d SPARSE %q\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\n"+
		"ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"4\"\n", sectors, name, max(1, sectors/255/63))
	head := streamHeader{
		Magic: streamMagic, Version: 3, Flags: 0x30001, Capacity: sectors, GrainSize: grainSectors,
		DescriptorAt: 1, Descriptor: 2, TableEntries: tableEntries, DirectoryAt: unknownPlace, Overhead: grainSectors,
		SingleEnd: '\n', NonEnd: ' ', DoubleEnd1: '\r', DoubleEnd2: '\n', Compression: 1,
	}
	out := &streamWriter{to: to}
	if err := out.header(head); err != nil {
		return err
	}
	described := make([]byte, (grainSectors-1)*sector)
	copy(described[:2*sector], text)
	if err := out.block(described); err != nil {
		return err
	}
	places, err := out.grains(f, capacity)
	if err != nil {
		return err
	}
	if head.DirectoryAt, err = out.tables(places, capacity); err != nil {
		return err
	}
	if err := out.marker(1, 3); err != nil {
		return err
	}
	if err := out.header(head); err != nil {
		return err
	}
	return out.marker(0, 0)
}

func (s *streamWriter) header(h streamHeader) error {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		return err
	}
	return s.block(b.Bytes())
}

// grains writes what is not zero, and says where each is.
func (s *streamWriter) grains(f *os.File, capacity int64) (map[int64]uint32, error) {
	places := make(map[int64]uint32)
	runs, err := data(f, capacity)
	if err != nil {
		return nil, err
	}
	plain, zeros := make([]byte, grain), make([]byte, grain)
	for _, run := range runs {
		for at := run.start; at < run.start+run.length; at += grain {
			clear(plain)
			if _, err := f.ReadAt(plain, at); err != nil && err != io.EOF {
				return nil, err
			}
			if bytes.Equal(plain, zeros) {
				continue
			}
			var packed bytes.Buffer
			deflate := zlib.NewWriter(&packed)
			deflate.Write(plain)
			if err := deflate.Close(); err != nil {
				return nil, err
			}
			var b bytes.Buffer
			binary.Write(&b, binary.LittleEndian, uint64(at/sector))
			binary.Write(&b, binary.LittleEndian, uint32(packed.Len()))
			b.Write(packed.Bytes())
			places[at/grain] = uint32(s.at)
			if err := s.block(b.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	return places, nil
}

// tables writes the tables that are not empty, and the directory; it says where the directory is.
func (s *streamWriter) tables(places map[int64]uint32, capacity int64) (uint64, error) {
	count := (capacity + grain*tableEntries - 1) / (grain * tableEntries)
	directory := make([]byte, 4*count)
	for t := range count {
		table, used := make([]byte, 4*tableEntries), false
		for e := range int64(tableEntries) {
			if place, ok := places[t*tableEntries+e]; ok {
				binary.LittleEndian.PutUint32(table[4*e:], place)
				used = true
			}
		}
		if !used {
			continue
		}
		if err := s.marker(uint64(len(table)/sector), 1); err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint32(directory[4*t:], uint32(s.at))
		if err := s.block(table); err != nil {
			return 0, err
		}
	}
	if err := s.marker(uint64((len(directory)+sector-1)/sector), 2); err != nil {
		return 0, err
	}
	at := s.at
	return at, s.block(directory)
}
