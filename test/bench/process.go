package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gild-project/gild/test/corpus"
)

// process runs a script of bash and measures it with all it starts.
func process(ctx context.Context, script string, env map[string]string) (figure, []byte, error) {
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	start := time.Now()
	if err := command.Start(); err != nil {
		return figure{}, nil, fmt.Errorf("starting a contender: %w", err)
	}
	peak := corpus.WatchMemory(command.Process.Pid)
	err := command.Wait()
	took := time.Since(start)
	memory := peak()
	if err != nil {
		return figure{}, nil, fmt.Errorf("running %q: %w: %s%s", script, err, stdout.String(), stderr.String())
	}
	state := command.ProcessState
	return figure{
		Seconds: took.Seconds(),
		CPU:     (state.UserTime() + state.SystemTime()).Seconds(),
		MiB:     float64(memory) / mib,
	}, stdout.Bytes(), nil
}

// told is what the importer says in its last line.
type told struct {
	ScratchBytes int64 `json:"scratchBytes"`
	WrittenBytes int64 `json:"writtenBytes"`
}

func lastLine(stdout []byte) (told, error) {
	lines := strings.Split(strings.TrimSpace(string(stdout)), "\n")
	var t told
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &t); err != nil {
		return t, fmt.Errorf("reading the importer's result: %w", err)
	}
	return t, nil
}

// sum is the sha256 of a file.
func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, f, make([]byte, mib)); err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashFile is a stage of the floor: Go's sha256 uses the processor's instructions for it, which
// sha256sum of Debian does not.
func hashFile(path string) error {
	digest, err := sum(path)
	if err != nil {
		return err
	}
	_, err = fmt.Println(digest)
	return err
}
