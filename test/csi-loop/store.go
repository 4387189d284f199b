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
	"time"
)

const (
	imageSuffix = ".img"
	factsSuffix = ".json"
)

var errNoVolume = errors.New("no such volume")

// volume is what is remembered of a volume, or of a snapshot: a volume that no
// node ever uses.
type volume struct {
	ID    string `json:"id"`
	Name  string `json:"name"` // the name it was asked for by
	Pool  string `json:"pool,omitempty"`
	Size  int64  `json:"size"` // bytes, as asked for
	Block bool   `json:"block,omitempty"`
	// Source is the identity of the volume or snapshot that this began as a copy
	// of; empty for one that began empty.
	Source string `json:"source,omitempty"`
	// Taken is when a snapshot was cut.
	Taken time.Time `json:"taken,omitzero"`
	// Unready is a fault: the snapshot never becomes ready to use.
	Unready bool `json:"unready,omitempty"`
}

// store keeps volumes in a folder: a sparse file with the data and a file with
// the facts. A volume exists from the moment its facts do, so a crash at any
// point leaves a whole volume or none.
type store struct {
	folder string
	mutex  sync.Mutex        // guards creating, so that capacity is counted right
	making map[string]volume // by identity, what is being made without the mutex
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
	s := &store{folder: folder, making: map[string]volume{}}
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

// thaw frees the file systems that a killed driver left frozen.
func (s *store) thaw() error {
	all, err := s.list()
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := thaw(s.image(v.ID)); err != nil {
			return err
		}
	}
	return nil
}

// identify returns the identity of the volume with that name. The same name
// always gets the same identity: creating twice finds the first volume.
func identify(name string) string { return derive("vol", name) }

// identifySnapshot is identify for snapshots: no volume has the same identity.
func identifySnapshot(name string) string { return derive("snap", name) }

// derive returns a kind and 16 digits made from the name.
func derive(kind, name string) string {
	return kind + "-" + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:16]
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

// reserve keeps an identity for the caller until release: making a volume may take
// long, and the mutex is for what does not. It says whether the identity was free.
// The caller holds the mutex.
func (s *store) reserve(v volume) bool {
	if _, taken := s.making[v.ID]; taken {
		return false
	}
	s.making[v.ID] = v
	return true
}

func (s *store) release(id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.making, id)
}

// put makes a volume whose file has realSize bytes, all zero.
func (s *store) put(v volume, realSize int64) error {
	if err := os.WriteFile(s.image(v.ID), nil, 0o600); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	if err := os.Truncate(s.image(v.ID), realSize); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	return s.record(v)
}

// putCopy makes a volume whose file begins with the bytes of the image, which may
// be in use. The rest of its realSize bytes is zero. It is never shorter than what
// it is a copy of, whatever realSize says.
func (s *store) putCopy(v volume, realSize int64, image string) error {
	copied := s.image(v.ID)
	if err := whileStill(image, func() error { return copyImage(copied, image) }); err != nil {
		_ = os.Remove(copied) // a full disk has room again; opening the store removes it too
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	info, err := os.Stat(copied)
	if err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	if err := os.Truncate(copied, max(info.Size(), realSize)); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	return s.record(v)
}

// record writes the facts of a volume whose data is there.
func (s *store) record(v volume) error {
	content, err := json.Marshal(v)
	if err != nil {
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
	all, err := s.list()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, v := range all {
		if _, counted := s.making[v.ID]; v.Pool == pool && !counted {
			sum += v.Size
		}
	}
	for _, v := range s.making {
		if v.Pool == pool {
			sum += v.Size
		}
	}
	return sum, nil
}

// list returns every volume, by identity.
func (s *store) list() ([]volume, error) {
	files, err := filepath.Glob(filepath.Join(s.folder, "*"+factsSuffix)) // sorted
	if err != nil {
		return nil, fmt.Errorf("listing volumes: %w", err)
	}
	all := make([]volume, 0, len(files))
	for _, file := range files {
		v, err := s.get(strings.TrimSuffix(filepath.Base(file), factsSuffix))
		if errors.Is(err, errNoVolume) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
