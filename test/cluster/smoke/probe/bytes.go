package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// diskSize is the length of a disk in a folder; that of a device is its own.
const diskSize = 40 << 20

// described turns an error into a finding.
func described(finding string, err error) string {
	if err != nil {
		return err.Error()
	}
	return finding
}

// disk is the file in a folder, or the device itself.
func disk(path string) (string, bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", false, err
	}
	if info.IsDir() {
		return filepath.Join(path, "disk.img"), true, nil
	}
	return path, false, nil
}

// put writes bytes that are made from the seed, with holes between them, and returns the disk's checksum.
func put(path, seed string) (string, error) {
	const chunk, step = 2 << 20, 11 << 20
	name, isFile, err := disk(path)
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return "", err
	}
	if isFile {
		err = file.Truncate(diskSize)
	}
	random := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	content := make([]byte, chunk)
	for offset := int64(0); offset+chunk <= diskSize && err == nil; offset += step {
		_, _ = random.Read(content) // never fails: math/rand/v2
		_, err = file.WriteAt(content, offset)
	}
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	return sum(path, strconv.Itoa(diskSize))
}

// sum returns the checksum of the first bytes of a disk, whether the rest is zero, and how large the disk and
// its volume are in MiB: the volume has the disk, or is it.
func sum(path, length string) (string, error) {
	first, err := strconv.ParseInt(length, 10, 64)
	if err != nil {
		return "", err
	}
	name, isFile, err := disk(path)
	if err != nil {
		return "", err
	}
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read
	hash := sha256.New()
	if _, err := io.CopyN(hash, file, first); err != nil {
		return "", err
	}
	rest, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	zero := true
	for _, b := range rest {
		zero = zero && b == 0
	}
	size := first + int64(len(rest))
	room := size
	if isFile {
		var facts syscall.Statfs_t
		if err := syscall.Statfs(path, &facts); err != nil {
			return "", err
		}
		room = int64(facts.Blocks) * facts.Bsize
	}
	return fmt.Sprintf("%x rest-is-zero=%t size=%d room=%d", hash.Sum(nil), zero, size>>20, room>>20), nil
}
