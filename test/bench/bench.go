package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/test/corpus"
	"github.com/gild-project/gild/test/reports"
)

// bench is one run of the benchmark.
type bench struct {
	dir  string
	size size

	program, importer string
	servers           *servers
	registry          *registry
	// disks are what must be on the target, by source file; sums the digests of the sources.
	disks map[string]corpus.Content
	sums  map[string]string
}

// forms is the folder of the disk's forms.
func (b *bench) forms() string { return filepath.Join(b.dir, b.size.name) }

// prepare makes the disk, builds the importer and starts the servers.
func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.program, err = os.Executable(); err != nil {
		return fmt.Errorf("finding our own program: %w", err)
	}
	b.importer = filepath.Join(b.dir, "importer")
	for _, args := range [][]string{
		{"test/bench/disk.sh", b.forms(), strconv.FormatInt(b.size.virtual, 10), b.size.packages},
		{"test/bench/layers.sh", b.forms()},
		{"go", "build", "-o", b.importer, "./cmd/importer"},
		{"go", "build", "-C", "test/registry", "-o", b.path("registry"), "."},
		{"go", "build", "-C", "test/registry", "-o", b.path("crane"), "github.com/google/go-containerregistry/cmd/crane"},
	} {
		command := exec.CommandContext(ctx, args[0], args[1:]...)
		command.Stdout, command.Stderr = os.Stderr, os.Stderr
		if err := command.Run(); err != nil {
			return fmt.Errorf("running %s: %w", args[0], err)
		}
	}
	dense := filepath.Join(b.forms(), "disk.dense")
	if _, err := os.Stat(dense); errors.Is(err, os.ErrNotExist) {
		if err := writeDense(filepath.Join(b.forms(), "disk.raw"), dense); err != nil {
			return fmt.Errorf("writing the data without holes: %w", err)
		}
	}
	b.disks, b.sums = map[string]corpus.Content{}, map[string]string{}
	for _, c := range cells() {
		if err := b.know(c); err != nil {
			return err
		}
	}
	if b.servers, err = startServers(ctx, b.forms()); err != nil {
		return err
	}
	if b.registry, err = startRegistry(ctx, b.path("registry"), b.path("images"), b.forms()); err != nil {
		return errors.Join(err, b.servers.stop())
	}
	return b.registry.configure(b.path("registries"))
}

// path of what is neither a form of the disk nor a target.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// know reads what the disk and the source of a cell are. It also brings them into memory.
func (b *bench) know(c cell) error {
	name := c.file()
	if _, known := b.sums[name]; known {
		return nil
	}
	var err error
	if b.sums[name], err = sum(filepath.Join(b.forms(), name)); err != nil {
		return err
	}
	disk := filepath.Join(b.forms(), "disk.raw")
	if c.kind.name == "raw" {
		disk = filepath.Join(b.forms(), name)
	}
	info, err := os.Stat(disk)
	if err != nil {
		return err
	}
	b.disks[name], err = contentOf(disk, info.Size())
	return err
}

func (b *bench) close() {
	if err := errors.Join(b.servers.stop(), b.registry.stop()); err != nil {
		fmt.Fprintln(os.Stderr, "bench: stopping the servers:", err)
	}
}

// measure runs all cells whose name matches, round by round, so that a busy minute hits all. The
// report has what was measured, also with an error.
func (b *bench) measure(ctx context.Context, only *regexp.Regexp) (*report, error) {
	var rows []*measured
	for _, c := range cells() {
		if only.MatchString(c.String()) {
			rows = append(rows, &measured{cell: c, Cell: c.String(), Contenders: map[string][]figure{}, Stages: map[string][]figure{}})
		}
	}
	err := b.rounds(ctx, rows)
	r := &report{Machine: reports.Machine(), Size: b.size.name}
	for _, row := range rows {
		if len(row.Floor) > 0 {
			row.judge()
			r.Rows = append(r.Rows, row)
		}
	}
	return r, err
}

func (b *bench) rounds(ctx context.Context, rows []*measured) error {
	for round := range max(b.size.rounds, b.size.limitedRounds) {
		done := map[string]figure{}
		for _, row := range rows {
			if row.cell.link == limited && round >= b.size.limitedRounds || row.cell.link == loopback && round >= b.size.rounds {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d: %s\n", round+1, row.Cell)
			if err := b.one(ctx, row, round, done); err != nil {
				return fmt.Errorf("%s: %w", row.Cell, err)
			}
		}
	}
	return nil
}

// one runs the contenders and the stages of a cell once. Who comes first changes from round to
// round. done holds the stages of this round that other cells have run.
func (b *bench) one(ctx context.Context, row *measured, round int, done map[string]figure) error {
	all := contenders(row.cell)
	for i := range all {
		c := all[(i+round)%len(all)]
		f, err := b.contend(ctx, row.cell, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		row.Contenders[c.name] = append(row.Contenders[c.name], f)
	}
	stageTimes := map[string]figure{}
	for _, s := range stages(row.cell) {
		key := s.name + " " + row.cell.file() + " " + row.cell.link
		if s.writes {
			key = s.name + " " + row.cell.target
		}
		f, known := done[key]
		if !known {
			var err error
			if f, err = b.stage(ctx, row.cell, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			done[key] = f
		}
		stageTimes[s.name] = f
	}
	for name, f := range stageTimes {
		row.Stages[name] = append(row.Stages[name], f)
	}
	row.Floor = append(row.Floor, floor(stageTimes, runtime.NumCPU()))
	return nil
}

// contend runs one contender and checks, outside the time, what it wrote.
func (b *bench) contend(ctx context.Context, c cell, who contender) (f figure, err error) {
	disk := b.disks[c.file()]
	v, err := newVolume(ctx, filepath.Join(b.dir, "target"), c.target, disk.Size)
	if err != nil {
		return figure{}, fmt.Errorf("making a target: %w", err)
	}
	defer func() { err = errors.Join(err, v.remove()) }()
	env := b.environment(c, v)
	var stdout []byte
	if f, stdout, err = b.timed(ctx, who.script, env); err != nil {
		return figure{}, err
	}
	if err := v.check(disk); err != nil {
		return figure{}, err
	}
	if who.name != gild {
		f.MiB = 0 // that of bash, and not of what it starts
		return f, nil
	}
	t, err := lastLine(stdout)
	f.ScratchBytes, f.WrittenBytes = t.ScratchBytes, t.WrittenBytes
	return f, err
}

// stage runs one stage of the floor. What it takes of the server's processor time counts too.
func (b *bench) stage(ctx context.Context, c cell, s stage) (f figure, err error) {
	v := &volume{}
	if s.writes {
		if v, err = newVolume(ctx, filepath.Join(b.dir, "target"), c.target, b.size.virtual); err != nil {
			return figure{}, fmt.Errorf("making a target: %w", err)
		}
		defer func() { err = errors.Join(err, v.remove()) }()
	}
	before, err := b.served(c)
	if err != nil {
		return figure{}, err
	}
	if f, _, err = b.timed(ctx, s.script, b.environment(c, v)); err != nil {
		return figure{}, err
	}
	after, err := b.served(c)
	f.CPU += after - before
	f.MiB = 0
	return f, err
}

// served is the processor time that the servers of a cell have used, in seconds.
func (b *bench) served(c cell) (float64, error) {
	if c.kind.layer == "" {
		return b.servers.cpu(c.link)
	}
	sum, err := processCPU(b.registry.process.Process.Pid)
	if c.link == limited && err == nil {
		var own float64
		own, err = b.servers.cpu(limited)
		sum += own
	}
	return sum, err
}

// timed runs a script after all that others wrote is on the disk.
func (b *bench) timed(ctx context.Context, script string, env map[string]string) (figure, []byte, error) {
	scratch := env["SCRATCH"]
	if err := errors.Join(os.RemoveAll(scratch), os.MkdirAll(scratch, 0o755)); err != nil {
		return figure{}, nil, fmt.Errorf("emptying scratch: %w", err)
	}
	folder, err := os.Open(b.dir)
	if err != nil {
		return figure{}, nil, err
	}
	defer func() { _ = folder.Close() }()
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		return figure{}, nil, fmt.Errorf("syncing: %w", err)
	}
	return process(ctx, script, env)
}

func (b *bench) environment(c cell, v *volume) map[string]string {
	env := map[string]string{
		"URL": b.servers.urls[c.link] + c.file(), "FILE": filepath.Join(b.forms(), c.file()), "FORMAT": c.kind.format, "SUM": "",
		"TARGET": v.path, "SCRATCH": filepath.Join(b.dir, "scratch"), "DENSE": filepath.Join(b.forms(), "disk.dense"),
		"SIZE": strconv.FormatInt(b.size.virtual, 10), "IMPORTER": b.importer, "BENCH_PROGRAM": b.program,
	}
	if c.checksum {
		env["SUM"] = b.sums[c.file()]
	}
	if c.kind.layer != "" {
		env["REFERENCE"], env["URL"] = b.registry.reference(c)
		env["LAYER"], env["REGISTRIES"], env["CRANE"] = b.registry.layers[c.kind.file], b.path("registries"), b.path("crane")
	}
	return env
}
