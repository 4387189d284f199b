package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// parallel is how many groups are built at once. Each build uses every core
// where it can; a second one fills the gaps while the first links or downloads.
const parallel = 2

// keptBuilds is how many builds of a group are kept. A cluster that runs needs the
// one it was started with, whatever another checkout builds meanwhile.
const keptBuilds = 3

// build compiles the groups that are not in the cache yet.
func (c *cluster) build(ctx context.Context, all []group) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return c.buildLocked(ctx, all)
}

func (c *cluster) buildLocked(ctx context.Context, all []group) error {
	if err := c.installPackages(ctx, buildPackages()); err != nil {
		return err
	}
	var wait sync.WaitGroup
	done := make(map[string]chan struct{}, len(all))
	for _, g := range all {
		done[g.name] = make(chan struct{})
	}
	failures := make([]error, len(all))
	slots := make(chan struct{}, parallel)
	for i, g := range all {
		wait.Go(func() {
			defer close(done[g.name])
			if g.after != "" {
				<-done[g.after]
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			failures[i] = c.buildGroup(ctx, g)
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// buildGroup builds one group into a folder that is named by its key.
func (c *cluster) buildGroup(ctx context.Context, g group) error {
	dir, err := c.groupDir(g)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err == nil { // prune keeps what was used last
		return nil
	}
	return c.steps.do("built", func() (string, error) {
		if err := prune(filepath.Dir(dir), keptBuilds-1); err != nil {
			return "", fmt.Errorf("removing earlier builds of %s: %w", g.name, err)
		}
		unfinished := dir + ".unfinished"
		for _, flags := range g.invocations(unfinished) {
			if err := c.compile(ctx, g, flags); err != nil {
				return "", err
			}
		}
		return g.name, os.Rename(unfinished, dir)
	})
}

// prune removes all but the builds that were used last from a folder that it makes
// if there is none.
func prune(parent string, keep int) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	used := make(map[string]time.Time, len(entries))
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		names = append(names, entry.Name())
		used[entry.Name()] = info.ModTime()
	}
	slices.SortFunc(names, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, name := range names[min(keep, len(names)):] {
		if err := os.RemoveAll(filepath.Join(parent, name)); err != nil {
			return err
		}
	}
	return nil
}

// invocations returns the arguments of go build that make the programs. Programs
// named like their package are built in one go.
func (g group) invocations(dir string) [][]string {
	var together []string
	var all [][]string
	for _, p := range g.programs {
		if filepath.Base(p.pkg) == p.name {
			together = append(together, p.pkg)
			continue
		}
		all = append(all, []string{"-o", filepath.Join(dir, p.name), p.pkg})
	}
	if len(together) > 0 {
		all = append(all, append([]string{"-o", dir + "/"}, together...))
	}
	return all
}

func (c *cluster) compile(ctx context.Context, g group, arguments []string) error {
	linker, err := c.linkerFlags(ctx, g)
	if err != nil {
		return err
	}
	cgo := "CGO_ENABLED=1"
	if g.static {
		cgo = "CGO_ENABLED=0"
	}
	args := append([]string{"build", "-mod=readonly", "-buildvcs=false", "-tags=" + g.tags, "-ldflags=" + linker}, arguments...)
	_, err = tool{path: "go", args: args, env: []string{cgo, "GOWORK=off"}, dir: filepath.Join(c.root, g.module)}.output(ctx)
	if err != nil {
		return fmt.Errorf("building %s: %w", g.name, err)
	}
	return nil
}

// groupDir is where the programs of a group are, once they are built.
func (c *cluster) groupDir(g group) (string, error) {
	key, err := g.key(c.root, runtime.Version())
	if err != nil {
		return "", fmt.Errorf("naming the build of %s: %w", g.name, err)
	}
	return filepath.Join(c.cache, "bin", g.name, key), nil
}

// key names a build by everything that goes into it: the compiler, the flags,
// the modules with their checksums and our own source files.
func (g group) key(root, compiler string) (string, error) {
	inputs := fmt.Sprintln(compiler, runtime.GOOS, runtime.GOARCH, g.static, g.tags, g.flags, g.programs)
	files := []string{filepath.Join(g.module, "go.mod"), filepath.Join(g.module, "go.sum")}
	err := filepath.WalkDir(filepath.Join(root, g.dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") || filepath.Ext(path) != ".go" {
			return err
		}
		name, err := filepath.Rel(root, path)
		files = append(files, name)
		return err
	})
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		inputs += fmt.Sprintf("%s %x\n", filepath.ToSlash(name), sha256.Sum256(content))
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(inputs)))[:16], nil
}

// binary returns the path of a built program.
func (c *cluster) binary(name string) (string, error) {
	for _, g := range append(groups(), sanityGroup()) {
		for _, p := range g.programs {
			if p.name == name {
				dir, err := c.groupDir(g)
				return filepath.Join(dir, name), err
			}
		}
	}
	return "", fmt.Errorf("no group builds %s", name)
}
