package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// tool is a short-lived program to run.
type tool struct {
	path  string
	args  []string
	env   []string // added to the environment, NAME=value
	dir   string
	stdin string
}

// output runs the tool and returns what it prints to its standard output. What
// it prints to its standard error is part of the error when it fails.
func (t tool) output(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), t.env...)
	cmd.Stdin = strings.NewReader(t.stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w\n%s", strings.Join(append([]string{t.path}, t.args...), " "), err, lastLines(stderr.String(), 20))
	}
	return stdout.String(), nil
}

// lastLines returns at most n lines from the end of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
