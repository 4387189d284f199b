//go:build corpus

package corpus

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// row is one image and what must happen to it; README.md explains the columns.
type row struct {
	file string
	// format is that of the image inside, packing that of the outer compression, or empty.
	format, packing string
	expect          string
	virtualSize     int64
	// sha256 is of the whole disk, blocks of what is not zero on it. Empty: not known.
	sha256, blocks string
	why            string
}

// manifest reads all rows and fails unless each has its image and each image its row.
func manifest(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("MANIFEST.tsv")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	lines := csv.NewReader(f)
	lines.Comma = '\t'
	lines.LazyQuotes = true
	records, err := lines.ReadAll()
	require.NoError(t, err)
	var rows []row
	var listed []string
	for _, fields := range records[1:] {
		known := func(text string) string { return strings.TrimPrefix(text, "-") }
		r := row{file: fields[0], expect: fields[2], sha256: known(fields[4]), blocks: known(fields[5]), why: fields[6]}
		r.format, r.packing, _ = strings.Cut(fields[1], "+")
		if size := known(fields[3]); size != "" {
			r.virtualSize, err = strconv.ParseInt(size, 10, 64)
			require.NoError(t, err, r.file)
		}
		rows, listed = append(rows, r), append(listed, r.file)
	}
	entries, err := os.ReadDir(filepath.Join(home, "images"))
	require.NoError(t, err)
	var made []string
	for _, entry := range entries {
		made = append(made, entry.Name())
	}
	require.ElementsMatch(t, listed, made, "MANIFEST.tsv and generate/ differ")
	return rows
}

// content is what must be on the disk. "=" stands for the bytes of the image itself.
func (r row) content(t *testing.T) Content {
	t.Helper()
	if r.sha256 == "=" {
		return contentOfFile(t, filepath.Join(home, "images", r.file), r.virtualSize)
	}
	return Content{Size: r.virtualSize, SHA256: r.sha256, Blocks: r.blocks, Clean: true}
}
