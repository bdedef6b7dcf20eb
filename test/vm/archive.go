package main

import (
	"bytes"
	"fmt"
)

// archive is a cpio archive in the "newc" format that the kernel unpacks as initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	buf   bytes.Buffer
	inode int
}

func (a *archive) dir(name string)                         { a.entry(name, 0o040755, nil) }
func (a *archive) file(name string, mode int, data []byte) { a.entry(name, 0o100000|mode, data) }

func (a *archive) entry(name string, mode int, data []byte) {
	a.inode++
	// magic, inode, mode, uid, gid, nlink, mtime, size, devmajor, devminor, rdevmajor, rdevminor, namesize, check
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}
