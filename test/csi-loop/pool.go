package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Parameters of a StorageClass, and those of snapshots of a VolumeSnapshotClass. The
// settings of the pool go before them.
const (
	poolParameter          = "pool"
	capacityParameter      = "capacityBytes"
	realParameter          = "realBytes"
	delayParameter         = "createDelay"
	copyDelayParameter     = "copyDelay"
	snapshotDelayParameter = "snapshotDelay"
	unreadyParameter       = "snapshotsUnready"
)

// settings are the limits and faults of a pool. The zero value has none.
type settings struct {
	// Capacity is the most bytes all volumes of the pool may have; 0 is no limit.
	Capacity int64 `json:"capacityBytes,omitempty"`
	// Real is the size, in bytes, that new volumes get in truth, whatever was
	// asked for and is said; 0 is the size asked for.
	Real int64 `json:"realBytes,omitempty"`
	// Delay is how long the creation of a volume takes, such as "10s".
	Delay duration `json:"createDelay,omitempty"`
	// Refuse is the reason why no volume can be created now, as if the pool were
	// full; empty means that volumes are created.
	Refuse string `json:"refuse,omitempty"`
	// CopyDelay is how much longer it takes for a volume that begins as a copy.
	CopyDelay duration `json:"copyDelay,omitempty"`
	// SnapshotDelay is how long it takes to cut a snapshot.
	SnapshotDelay duration `json:"snapshotDelay,omitempty"`
	// Unready is that snapshots are cut and never become ready to use. Those that
	// were cut by such a class stay so; those of a pool become ready when it ends.
	Unready bool `json:"snapshotsUnready,omitempty"`
	// RefuseSnapshots is the reason why no snapshot can be taken now.
	RefuseSnapshots string `json:"refuseSnapshots,omitempty"`
}

// duration is a time span written as Go does: 1m30s.
type duration time.Duration

// UnmarshalText reads a time span.
func (d *duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	*d = duration(value)
	return err
}

// pools finds the settings of pools in a folder.
type pools struct{ folder string }

// read returns the name of the pool and its settings: the parameters of a class,
// each replaced by what the pool's file says now.
func (p pools) read(parameters map[string]string) (string, settings, error) {
	s, err := fromParameters(parameters)
	if err != nil {
		return "", settings{}, err
	}
	name := parameters[poolParameter]
	if name == "" || p.folder == "" {
		return name, s, nil
	}
	if name != filepath.Base(name) {
		return "", settings{}, fmt.Errorf("reading the parameters: %q cannot name a pool", name)
	}
	content, err := os.ReadFile(filepath.Join(p.folder, name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return name, s, nil
	}
	if err != nil {
		return "", settings{}, fmt.Errorf("reading the settings of pool %s: %w", name, err)
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return "", settings{}, fmt.Errorf("reading the settings of pool %s: %w", name, err)
	}
	return name, s, nil
}

func fromParameters(parameters map[string]string) (settings, error) {
	var s settings
	for name, target := range map[string]*int64{capacityParameter: &s.Capacity, realParameter: &s.Real} {
		if parameters[name] == "" {
			continue
		}
		value, err := strconv.ParseInt(parameters[name], 10, 64)
		if err != nil || value < 0 {
			return settings{}, fmt.Errorf("reading the parameters: %s is %q, not a number of bytes", name, parameters[name])
		}
		*target = value
	}
	for name, target := range map[string]*duration{
		delayParameter: &s.Delay, copyDelayParameter: &s.CopyDelay, snapshotDelayParameter: &s.SnapshotDelay,
	} {
		if parameters[name] == "" {
			continue
		}
		if err := target.UnmarshalText([]byte(parameters[name])); err != nil {
			return settings{}, fmt.Errorf("reading the parameters: %w", err)
		}
	}
	if text := parameters[unreadyParameter]; text != "" {
		unready, err := strconv.ParseBool(text)
		if err != nil {
			return settings{}, fmt.Errorf("reading the parameters: %s is %q, not true or false", unreadyParameter, text)
		}
		s.Unready = unready
	}
	return s, nil
}
