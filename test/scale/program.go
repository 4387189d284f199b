package main

import (
	"bytes"
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

const (
	// endLimit is how long a program may take to end.
	endLimit = time.Minute
	// ticks is how many of the kernel's ticks are a second, on every Linux that Go runs on.
	ticks = 100
)

// program is a process that this one has started.
type program struct {
	name    string
	command *exec.Cmd
	ended   chan struct{}
	err     error // set before ended is closed
}

// startProgram starts a program whose standard error goes to a log. It is asked to end when ctx
// ends, and does not outlive this process.
func startProgram(ctx context.Context, log string, command *exec.Cmd) (*program, error) {
	p := &program{name: filepath.Base(command.Path), command: command, ended: make(chan struct{})}
	file, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	if command.Stdout == nil {
		command.Stdout = file
	}
	command.Stderr = file
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", p.name, err), file.Close())
	}
	go func() {
		defer close(p.ended)
		p.err = command.Wait()
		_ = file.Close() // it has its own descriptor
	}()
	context.AfterFunc(ctx, func() { _ = command.Process.Signal(syscall.SIGTERM) }) // it may have ended
	return p, nil
}

// alive is an error once the program has ended.
func (p *program) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %w", p.name, errors.Join(p.err, errors.New("see its log")))
	default:
		return nil
	}
}

// stop asks the program to end, and waits.
func (p *program) stop() error {
	if p.alive() != nil {
		return nil
	}
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
		return nil
	case <-limit.C:
		return errors.Join(fmt.Errorf("stopping %s: it does not end within %s", p.name, endLimit), p.command.Process.Kill())
	}
}

// memory is the high-water mark of the resident memory, in MiB.
func (p *program) memory() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscanf(after, "%f kB", &kib); err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	return kib * 1024 / mib, nil
}

// cpu is the processor time used so far, in seconds.
func (p *program) cpu() (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", p.name, err)
	}
	// The name in brackets may have spaces. User and system time are the 12th and 13th field after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var sum float64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseFloat(string(field), 64)
		if err != nil {
			return 0, fmt.Errorf("reading the processor time of %s: %w", p.name, err)
		}
		sum += n
	}
	return sum / ticks, nil
}

// build compiles a program of this checkout and returns where it is.
func build(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	command := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("building %s: %w", pkg, err)
	}
	return path, nil
}
