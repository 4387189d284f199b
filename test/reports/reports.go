// Package reports keeps what tests and benchmarks measure: where, on which machine, and in which forms.
package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine describes this machine in a line: its processors and its kernel.
func Machine() string {
	model := "unknown processor"
	if cpuinfo, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(cpuinfo), "model name")
		line, _, _ := strings.Cut(after, "\n")
		model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
	}
	var name unix.Utsname
	_ = unix.Uname(&name) // it cannot fail with a valid address; an empty release is no harm
	return fmt.Sprintf("%d cores of %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(name.Release[:]))
}

// Folder is $GILD_CACHE/name, made if there is none. Without that variable it is below the user's cache.
func Folder(name string) (string, error) {
	cache := os.Getenv("GILD_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a folder for %s (set GILD_CACHE): %w", name, err)
		}
		cache = filepath.Join(user, "gild")
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a folder for %s: %w", name, err)
	}
	return dir, nil
}

// Write prints the table, and leaves it in dir as report.txt, beside the figures as report.json.
func Write(out io.Writer, dir, table string, figures any) error {
	if _, err := io.WriteString(out, table); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	all, err := json.MarshalIndent(figures, "", " ")
	if err != nil {
		return fmt.Errorf("writing the figures: %w", err)
	}
	for name, text := range map[string]string{"report.txt": table, "report.json": string(all) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
}
