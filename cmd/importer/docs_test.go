package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/source"
)

// TestReasonsOfThePartsAreKnown reads the reasons that source, format, target and exporter spell as
// plain strings.
func TestReasonsOfThePartsAreKnown(t *testing.T) {
	for _, part := range []string{"source/errors.go", "format/refusal/refusal.go", "target/errors.go", "exporter/errors.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "pkg", part), nil, 0)
		require.NoError(t, err)
		found := 0
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			literal, ok := spec.Values[0].(*ast.BasicLit)
			require.True(t, ok)
			value, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			require.Equal(t, spec.Names[0].Name, value)
			require.True(t, importer.Reason(value).Known(), "%s of %s is not in the table", value, part)
			found++
			return true
		})
		require.Positive(t, found)
	}
}

// TestDocs keeps docs/importer.md true: its table of reasons and its list of flags.
func TestDocs(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "importer.md"))
	require.NoError(t, err)
	doc := string(content)
	var table strings.Builder
	for _, row := range importer.Reasons() {
		fmt.Fprintf(&table, "| %d | %s | %s |\n", row.Exit, row.Reason, row.Meaning)
	}
	require.Contains(t, doc, table.String(), "the table of reasons must be the one of pkg/importer/reason.go")

	story, err := os.ReadFile(filepath.Join("testdata", "help.txtar"))
	require.NoError(t, err)
	_, help, found := strings.Cut(string(story), "-- help.txt --\n")
	require.True(t, found)
	require.Contains(t, doc, help, "the flags must be those of importer -h")
}

// TestSampleJob runs the sample Job's arguments through the importer's own flags, and its
// certificates through the importer's own reader.
func TestSampleJob(t *testing.T) {
	file, err := os.Open(filepath.Join("..", "..", "deploy", "samples", "importer-job.yaml"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	type container struct {
		Args         []string
		VolumeMounts []struct {
			MountPath string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
	}
	var jobs, certificates int
	for decoder := yaml.NewDecoder(file); ; {
		var object struct {
			Kind string
			Data map[string]string
			Spec struct {
				Template struct {
					Spec struct{ Containers []container }
				}
			}
		}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		for _, c := range object.Spec.Template.Spec.Containers {
			var o importer.Options
			flags := pflag.NewFlagSet("importer", pflag.ContinueOnError)
			o.BindFlags(flags)
			require.NoError(t, flags.Parse(c.Args))
			require.NoError(t, o.Validate())
			require.Equal(t, o.Args(), c.Args, "in the order and the form of Args")
			var mounts []string
			for _, m := range c.VolumeMounts {
				mounts = append(mounts, m.MountPath)
			}
			require.ElementsMatch(t, []string{o.Target, o.SecretDir, o.CADir}, mounts)
			jobs++
		}
		if object.Kind != "ConfigMap" {
			continue
		}
		dir := t.TempDir()
		for name, pem := range object.Data {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(pem), 0o600))
			certificates++
		}
		_, err = source.ReadCAs(dir)
		require.NoError(t, err)
	}
	require.Equal(t, 1, jobs)
	require.Positive(t, certificates)
}
