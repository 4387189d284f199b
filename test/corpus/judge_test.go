//go:build corpus

package corpus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gild-project/gild/pkg/importer"
)

// judge returns what is wrong with the end of one import, nothing when it is right.
func judge(t *testing.T, way route, r row, o outcome, v volume) []string {
	t.Helper()
	var wrong []string
	if o.code != o.result.Reason.ExitCode() {
		wrong = append(wrong, fmt.Sprintf("exit code %d does not belong to the reason %s", o.code, o.result.Reason))
	}
	if o.memory > memoryLimit {
		wrong = append(wrong, fmt.Sprintf("used %d MiB of memory", o.memory>>20))
	}
	if o.code != importer.ExitDone {
		if left := v.left(t); left != "" {
			wrong = append(wrong, "left behind "+left)
		}
	}
	switch {
	case way.small, r.expect == "limit" && r.sha256+r.blocks == "":
		wrong = append(wrong, tooLarge(r, o)...)
	case r.expect == "accept", r.expect == "limit":
		wrong = append(wrong, exact(t, way, r, o, v)...)
	case r.expect == "either", r.expect == "layer-either":
		if o.code == importer.ExitDone {
			wrong = append(wrong, exact(t, way, r, o, v)...)
		} else {
			wrong = append(wrong, refused(r, o)...)
		}
	default:
		wrong = append(wrong, refused(r, o)...)
	}
	return wrong
}

// exact wants the disk of the row on the volume and nothing else.
func exact(t *testing.T, way route, r row, o outcome, v volume) []string {
	t.Helper()
	if o.code != importer.ExitDone {
		return []string{"refused"}
	}
	if r.sha256+r.blocks == "" {
		return []string{"accepted, and nobody knows what must come out"}
	}
	var wrong []string
	if o.result.VirtualSize != r.virtualSize {
		wrong = append(wrong, fmt.Sprintf("virtual size %d in place of %d", o.result.VirtualSize, r.virtualSize))
	}
	got, want := v.read(t, r.virtualSize), r.content(t)
	if got.Size != want.Size {
		wrong = append(wrong, fmt.Sprintf("the disk has %d bytes in place of %d", got.Size, want.Size))
	}
	if want.SHA256 != "" && got.SHA256 != "" && got.SHA256 != want.SHA256 || want.Blocks != "" && got.Blocks != want.Blocks {
		wrong = append(wrong, "other bytes on the disk")
	}
	if !got.Clean {
		wrong = append(wrong, "old bytes behind the disk")
	}
	if o.result.ScratchBytes > 0 && !mayScratch(way, r) {
		wrong = append(wrong, fmt.Sprintf("kept %d bytes in scratch", o.result.ScratchBytes))
	}
	return wrong
}

// mayScratch tells which images may be kept while they are converted: those that qemu-img reads
// when the source is no file and has no ranges, or that can be read only once.
func mayScratch(way route, r row) bool {
	if strings.HasPrefix(way.source, "/once") {
		return true
	}
	byUs := slices.Contains([]string{"raw", "qcow2"}, r.format) || strings.Contains(r.file, "streamOptimized")
	seekable := way.pack == "" && r.packing == "" && (way.source == "file" || way.source == "/ranges")
	return !byUs && !seekable
}

// refused wants a clean refusal.
func refused(r row, o outcome) []string {
	switch {
	case o.code == importer.ExitImage:
		return nil
	case o.code == importer.ExitSpace && strings.Contains(r.file, "size"):
		return nil // the size in its header is the lie
	case o.code == importer.ExitDone:
		return []string{"accepted"}
	}
	return []string{"no clean refusal"}
}

// tooLarge wants a refusal that says, when the image says it, what size the volume must have.
func tooLarge(r row, o outcome) []string {
	if o.code != importer.ExitSpace {
		return []string{"not refused as too large"}
	}
	if r.packing == "" && r.format != "raw" && !strings.Contains(o.result.Message, strconv.FormatInt(r.virtualSize, 10)) {
		return []string{"the message does not say the size needed"}
	}
	return nil
}
