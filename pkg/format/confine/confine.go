// Package confine runs a tool that parses a stranger's image: under limits, without the network,
// and with open files in place of names.
package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// maxFiles is more than any of our tools opens.
const maxFiles = 64

// Tool is one run of a program.
type Tool struct {
	// Name of the program, found in PATH, and its arguments.
	Name string
	Args []string
	// Memory is its address space in bytes, Seconds its processor time.
	Memory, Seconds int64
	// Files are its descriptors from 3 on.
	Files []*os.File
	// Stdin and Stdout may be nil.
	Stdin  io.Reader
	Stdout io.Writer
}

// Failure is how a tool ended that did not succeed.
type Failure struct {
	// Missing tells that it could not be started.
	Missing bool
	// Killed tells that a limit ended it.
	Killed bool
	// Says is the end of what it wrote to stderr, in one line.
	Says error
}

// Error implements error.
func (f *Failure) Error() string { return f.Says.Error() }

// Unwrap returns what the tool said.
func (f *Failure) Unwrap() error { return f.Says }

// Run starts the tool and waits for it, on a thread of its own: the thread loses the right to
// open sockets, and its end is the end of its child. The error is a *Failure, the cause of ctx,
// or one of ours.
func Run(ctx context.Context, t Tool) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		if err := denyNetwork(); err != nil {
			done <- refusal.By(refusal.InternalError, "confining "+t.Name, err)
			return
		}
		done <- t.run(ctx)
	}()
	return <-done
}

func (t Tool) run(ctx context.Context) error {
	command := exec.CommandContext(ctx, "prlimit", append([]string{
		fmt.Sprintf("--as=%d", t.Memory), fmt.Sprintf("--cpu=%d", t.Seconds), "--core=0", fmt.Sprintf("--nofile=%d", maxFiles),
		"--", t.Name,
	}, t.Args...)...)
	// Nothing of our environment: proxies may hold passwords.
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	command.ExtraFiles = t.Files
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.WaitDelay = 5 * time.Second
	var stderr tail
	command.Stderr = &stderr
	command.Stdin, command.Stdout = t.Stdin, t.Stdout
	if err := command.Run(); err != nil {
		return failure(ctx, err, stderr.String())
	}
	return nil
}

func failure(ctx context.Context, err error, stderr string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return &Failure{Missing: true, Says: err}
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	return &Failure{
		Missing: exit.ExitCode() == 127 || exit.ExitCode() == 126,
		Killed:  status.Signaled() && (status.Signal() == syscall.SIGXCPU || status.Signal() == syscall.SIGKILL),
		Says:    errors.New(strings.ReplaceAll(stderr, "\n", " ")),
	}
}

// tail keeps the last bytes written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const limit = 600
	t.kept = append(t.kept, p...)
	if len(t.kept) > limit {
		t.kept = append([]byte(nil), t.kept[len(t.kept)-limit:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.kept)) }
