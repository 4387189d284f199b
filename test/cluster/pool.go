package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// setPool replaces the settings of a pool of volumes, which the CSI driver reads
// at every request. Off removes them.
func (c *cluster) setPool(name, settings string) error {
	folder := c.path("pools")
	file := filepath.Join(folder, filepath.Base(name)+".json")
	if settings == "off" {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the settings of pool %s: %w", name, err)
		}
		return nil
	}
	if !json.Valid([]byte(settings)) {
		return fmt.Errorf("the settings of a pool are JSON, not %s", settings)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the folder of the pools: %w", err)
	}
	// A new file is moved into place, so that the driver never reads half of it.
	unfinished := file + ".unfinished"
	if err := os.WriteFile(unfinished, []byte(settings), 0o644); err != nil {
		return fmt.Errorf("writing the settings of pool %s: %w", name, err)
	}
	return os.Rename(unfinished, file)
}
