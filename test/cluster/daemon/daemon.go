// Package daemon runs long-lived processes of the host that belong to one folder.
//
// Each process is started in a session of its own, so it outlives the command
// that started it, writes its log into the folder, and carries a mark in its
// environment. The mark, not a name or a bare process id, tells which processes
// may be stopped: children inherit it, and nobody else has it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// markName is the environment variable whose value is the folder of a process's owner.
const markName = "GILD_CLUSTER_OWNER"

// poll is how often a stopping process is looked at.
const poll = 50 * time.Millisecond

// afterKill is how long the kernel may take to end a killed process.
const afterKill = 10 * time.Second

// Folder is where process ids and logs of a set of daemons are kept.
type Folder struct {
	// Path is absolute. It is also the mark of the processes.
	Path string
}

// Command is a daemon to start.
type Command struct {
	Name string   // names the log and the process id file
	Path string   // the program
	Args []string // without the program itself
	Env  []string // added to the environment, NAME=value
}

// Start starts the command and returns once it runs. Its output is appended to
// its log. A daemon of the same name that still runs is left alone: that is an error.
func (f Folder) Start(c Command) error {
	if f.Alive(c.Name) {
		return fmt.Errorf("starting %s: it already runs", c.Name)
	}
	for _, dir := range []string{f.run(), filepath.Dir(f.Log(c.Name))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("starting %s: %w", c.Name, err)
		}
	}
	log, err := os.OpenFile(f.Log(c.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", c.Name, err)
	}
	defer func() { _ = log.Close() }() // the daemon has its own descriptor

	cmd := exec.Command(c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = f.Path
	cmd.Env = append(append(os.Environ(), c.Env...), markName+"="+f.Path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends while this program runs; its log says why it ended
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := os.WriteFile(f.pidFile(c.Name), []byte(pid+"\n"), 0o644); err != nil {
		return errors.Join(fmt.Errorf("recording the process of %s: %w", c.Name, err), cmd.Process.Kill())
	}
	return nil
}

// Alive says whether the daemon runs.
func (f Folder) Alive(name string) bool {
	_, alive := f.PID(name)
	return alive
}

// PID returns the process id of a running daemon.
func (f Folder) PID(name string) (int, bool) {
	content, err := os.ReadFile(f.pidFile(name))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid <= 1 {
		return 0, false
	}
	return pid, f.owns(pid)
}

// Stop asks the daemon to end and kills it when it has not ended after grace.
// A daemon that does not run is no error.
func (f Folder) Stop(ctx context.Context, name string, grace time.Duration) error {
	pid, alive := f.PID(name)
	if alive {
		if err := f.end(ctx, pid, grace); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := os.Remove(f.pidFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	return nil
}

// Kill ends the daemon without warning, as a crash would.
func (f Folder) Kill(ctx context.Context, name string) error {
	pid, alive := f.PID(name)
	if !alive {
		return fmt.Errorf("killing %s: it does not run", name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing %s: %w", name, err)
	}
	if !f.gone(ctx, pid, afterKill) {
		return fmt.Errorf("killing %s: process %d does not end", name, pid)
	}
	return nil
}

// StopAll ends every process that carries the mark, recorded or not: daemons
// whose record was lost, and children that outlived them.
func (f Folder) StopAll(ctx context.Context, grace time.Duration) error {
	pids, err := f.Running()
	if err != nil {
		return err
	}
	var failures []error
	for _, pid := range pids {
		failures = append(failures, f.end(ctx, pid, grace))
	}
	return errors.Join(failures...)
}

// Log is the path of the daemon's log.
func (f Folder) Log(name string) string { return filepath.Join(f.Path, "log", name+".log") }

func (f Folder) run() string                { return filepath.Join(f.Path, "run") }
func (f Folder) pidFile(name string) string { return filepath.Join(f.run(), name+".pid") }

// end sends SIGTERM, waits, then sends SIGKILL and waits again.
func (f Folder) end(ctx context.Context, pid int, grace time.Duration) error {
	for _, try := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, afterKill}} {
		if err := syscall.Kill(pid, try.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("sending %s to process %d: %w", try.signal, pid, err)
		}
		if f.gone(ctx, pid, try.wait) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// gone waits until the process has ended, at most for limit.
func (f Folder) gone(ctx context.Context, pid int, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for f.owns(pid) {
		select {
		case <-ctx.Done():
			return !f.owns(pid)
		case <-tick.C:
		}
	}
	return true
}
