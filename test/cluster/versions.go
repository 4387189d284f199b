package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// linkerFlags returns the linker flags of a group with module versions filled in.
// Symbols for debuggers are left out: they double the size of every program.
func (c *cluster) linkerFlags(ctx context.Context, g group) (string, error) {
	flags := append([]string{"-s", "-w"}, g.flags...)
	joined := strings.Join(flags, " ")
	if !strings.Contains(joined, "{") {
		return joined, nil
	}
	required, err := c.required(ctx, g)
	if err != nil {
		return "", err
	}
	for module, version := range required {
		joined = strings.ReplaceAll(joined, "{"+module+"}", version)
	}
	if strings.Contains(joined, "{") {
		return "", fmt.Errorf("the go.mod of %s lacks a module named in: %s", g.name, joined)
	}
	return joined, nil
}

// required returns the modules that a group's go.mod requires, with their versions.
func (c *cluster) required(ctx context.Context, g group) (map[string]string, error) {
	output, err := tool{path: "go", args: []string{"mod", "edit", "-json"}, dir: filepath.Join(c.root, g.module)}.output(ctx)
	if err != nil {
		return nil, err
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal([]byte(output), &mod); err != nil {
		return nil, fmt.Errorf("reading the go.mod of %s: %w", g.name, err)
	}
	versions := make(map[string]string, len(mod.Require))
	for _, r := range mod.Require {
		versions[r.Path] = r.Version
	}
	return versions, nil
}

// versions prints the module version of every program that is not ours.
func (c *cluster) versions(ctx context.Context) error {
	for _, g := range append(groups(), sanityGroup()) {
		required, err := c.required(ctx, g)
		if err != nil {
			return err
		}
		for _, p := range g.programs {
			module := p.pkg
			for required[module] == "" && strings.Contains(module, "/") {
				module = module[:strings.LastIndex(module, "/")]
			}
			if required[module] == "" {
				continue // ours
			}
			if _, err := fmt.Fprintf(c.out, "%-26s %-10s %s\n", p.name, required[module], module); err != nil {
				return err
			}
		}
	}
	return nil
}
