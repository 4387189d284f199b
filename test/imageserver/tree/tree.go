// Package tree lists the files of a volume.
package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// textLimit is the most of a file that is shown, in bytes.
const textLimit = 32

// Entry is a file, a folder or a link.
type Entry struct {
	// Kind is d, L or another letter of fs.FileMode; - for a file.
	Kind string `json:"k"`
	// Text is the beginning of a file, or where a symbolic link leads.
	Text string `json:"t,omitempty"`
	// Executable tells that a file can be run.
	Executable bool `json:"x,omitempty"`
	// Links is how many names a file has. Folders have none.
	Links uint64 `json:"n,omitempty"`
}

// Of lists all below dir by their path, but lost+found. What may not be read has no text.
func Of(dir string) (map[string]Entry, error) {
	entries := map[string]Entry{}
	err := filepath.WalkDir(dir, func(path string, found fs.DirEntry, err error) error {
		switch {
		case found != nil && found.Name() == "lost+found":
			return fs.SkipDir
		case err != nil && path != dir:
			return nil // somebody else's folder
		case err != nil || path == dir:
			return err
		}
		info, err := found.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		entries[name] = describe(path, info)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the volume: %w", err)
	}
	return entries, nil
}

func describe(path string, info fs.FileInfo) Entry {
	entry := Entry{Kind: info.Mode().String()[:1]}
	if info.IsDir() {
		return entry
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.Links = stat.Nlink
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		entry.Text, _ = os.Readlink(path)
	case info.Mode().IsRegular():
		entry.Executable = info.Mode()&0o111 != 0
		if content, err := os.ReadFile(path); err == nil {
			entry.Text = string(content[:min(len(content), textLimit)])
		}
	}
	return entry
}
