package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	imageSuffix = ".img"
	factsSuffix = ".json"
)

var errNoVolume = errors.New("no such volume")

// volume is what is remembered of a volume.
type volume struct {
	ID    string `json:"id"`
	Name  string `json:"name"` // the name it was asked for by
	Pool  string `json:"pool,omitempty"`
	Size  int64  `json:"size"` // bytes, as asked for
	Block bool   `json:"block,omitempty"`
}

// store keeps volumes in a folder: a sparse file with the data and a file with
// the facts. A volume exists from the moment its facts do, so a crash at any
// point leaves a whole volume or none.
type store struct {
	folder string
	mutex  sync.Mutex // guards creating, so that capacity is counted right
}

// openStore opens the folder and removes what a crash left half made.
func openStore(folder string) (*store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	s := &store{folder: folder}
	for _, entry := range entries {
		id, isImage := strings.CutSuffix(entry.Name(), imageSuffix)
		_, err := os.Stat(s.facts(id))
		if (isImage && errors.Is(err, os.ErrNotExist)) || filepath.Ext(entry.Name()) == ".unfinished" {
			if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// identify returns the identity of the volume with that name. The same name
// always gets the same identity: creating twice finds the first volume.
func identify(name string) string {
	return fmt.Sprintf("vol-%x", sha256.Sum256([]byte(name)))[:20]
}

func (s *store) image(id string) string {
	return filepath.Join(s.folder, filepath.Base(id)+imageSuffix)
}
func (s *store) facts(id string) string {
	return filepath.Join(s.folder, filepath.Base(id)+factsSuffix)
}

// get returns the volume, or errNoVolume.
func (s *store) get(id string) (volume, error) {
	content, err := os.ReadFile(s.facts(id))
	if errors.Is(err, os.ErrNotExist) {
		return volume{}, errNoVolume
	}
	if err != nil {
		return volume{}, fmt.Errorf("reading volume %s: %w", id, err)
	}
	var v volume
	if err := json.Unmarshal(content, &v); err != nil {
		return volume{}, fmt.Errorf("reading volume %s: %w", id, err)
	}
	return v, nil
}

// put makes a volume whose file has realSize bytes, all zero.
func (s *store) put(v volume, realSize int64) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	if err := os.WriteFile(s.image(v.ID), nil, 0o600); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	if err := os.Truncate(s.image(v.ID), realSize); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	unfinished := s.facts(v.ID) + ".unfinished"
	if err := os.WriteFile(unfinished, content, 0o600); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	return os.Rename(unfinished, s.facts(v.ID))
}

// remove removes a volume; one that does not exist is no error. The facts go
// last, so that a crash in between is mended by removing again.
func (s *store) remove(id string) error {
	for _, file := range []string{s.image(id), s.facts(id)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing volume %s: %w", id, err)
		}
	}
	return nil
}

// used returns the bytes that the volumes of a pool were asked for with.
func (s *store) used(pool string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(s.folder, "*"+factsSuffix))
	if err != nil {
		return 0, fmt.Errorf("listing volumes: %w", err)
	}
	var sum int64
	for _, file := range files {
		v, err := s.get(strings.TrimSuffix(filepath.Base(file), factsSuffix))
		if errors.Is(err, errNoVolume) {
			continue // removed meanwhile
		}
		if err != nil {
			return 0, err
		}
		if v.Pool == pool {
			sum += v.Size
		}
	}
	return sum, nil
}
