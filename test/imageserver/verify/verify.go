// Package verify reads a disk back from the volume it was imported to.
package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"unsafe"
)

// diskFile is the file that holds the disk on a Filesystem volume.
const diskFile = "disk.img"

// bufferSize is what is read at once: a multiple of every sector size.
const bufferSize = 1 << 20

// Report is what a volume holds.
type Report struct {
	// SHA256 of the first Size bytes, in hexadecimal.
	SHA256 string `json:"sha256"`
	// Size is how many bytes were asked for and read.
	Size int64 `json:"size"`
	// Capacity of the block device, or length of the file.
	Capacity int64 `json:"capacity"`
	// TailZero says that every byte from Size to Capacity reads as zero.
	TailZero bool `json:"tailZero"`
	// Others are the names of all else on a Filesystem volume, but lost+found.
	Others []string `json:"others,omitempty"`
	// Mode of the file or device, such as -rw-rw----.
	Mode string `json:"mode"`
}

// Volume reads the volume at path, a block device or the folder of a Filesystem
// volume, of whose disk the first size bytes are hashed. It bypasses the page cache
// where the volume allows it, so that it reports what the storage holds.
func Volume(path string, size int64) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("finding the volume: %w", err)
	}
	report := Report{Size: size}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return Report{}, fmt.Errorf("listing the volume: %w", err)
		}
		for _, entry := range entries {
			if !slices.Contains([]string{diskFile, "lost+found"}, entry.Name()) {
				report.Others = append(report.Others, entry.Name())
			}
		}
		path = filepath.Join(path, diskFile)
	}
	disk, err := open(path)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = disk.Close() }()
	if info, err = disk.Stat(); err != nil {
		return Report{}, fmt.Errorf("looking at the disk: %w", err)
	}
	report.Mode = info.Mode().String()
	return report, report.read(disk)
}

// open opens path for direct reads, or for ordinary ones where the file system
// refuses direct ones.
func open(path string) (*os.File, error) {
	disk, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) {
		disk, err = os.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the disk: %w", err)
	}
	return disk, nil
}

// read hashes the first Size bytes of disk and checks that the rest is zero.
func (r *Report) read(disk io.Reader) error {
	hash := sha256.New()
	buffer := aligned(bufferSize)
	zeros := make([]byte, bufferSize)
	r.TailZero = true
	for {
		n, err := disk.Read(buffer)
		if n == 0 || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the disk at %d: %w", r.Capacity, err)
		}
		wanted := min(max(r.Size-r.Capacity, 0), int64(n))
		hash.Write(buffer[:wanted])
		if tail := buffer[wanted:n]; string(tail) != string(zeros[:len(tail)]) {
			r.TailZero = false
		}
		r.Capacity += int64(n)
	}
	if r.Capacity < r.Size {
		return fmt.Errorf("reading the disk: it ends after %d of %d bytes", r.Capacity, r.Size)
	}
	r.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return nil
}

// aligned returns a buffer that begins at a multiple of 4096, as direct reads need it.
func aligned(size int) []byte {
	const page = 4096
	buffer := make([]byte, size+page)
	skip := page - int(uintptr(unsafe.Pointer(unsafe.SliceData(buffer)))%page)
	return buffer[skip : skip+size]
}
