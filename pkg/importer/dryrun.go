package importer

import (
	"fmt"
)

// dryRun says what an import would do. All that can be refused early has been refused.
func (r *run) dryRun(i *inspected) error {
	etag, lastModified := i.source.Validators()
	validator := "none: a broken connection would start over"
	switch {
	case etag != "":
		validator = "ETag " + etag
	case lastModified != "":
		validator = "Last-Modified " + lastModified
	}
	length, size := "unknown", "unknown before the import"
	if n := i.source.Size(); n >= 0 {
		length = fmt.Sprintf("%d bytes (%s)", n, Human(n))
	}
	if i.size >= 0 {
		size = fmt.Sprintf("%d bytes (%s)", i.size, Human(i.size))
	}
	if i.way(r.options.TargetFormat) == bySpool && r.options.ScratchDir == "" {
		return r.scratchRequired(i)
	}
	plan := r.plan(i)
	rows := append([][2]string{{"source", i.source.Name()}}, r.origin.Rows...)
	rows = append(rows, [2]string{"format", r.result.SourceFormat}, [2]string{"length", length})
	if r.origin.Digest == "" {
		rows = append(rows, [2]string{"validator", validator})
	}
	r.report.table(append(rows,
		[2]string{"disk", size},
		[2]string{"target", fmt.Sprintf("%s, with room for %s", r.target, Human(r.target.Capacity()))},
		[2]string{"plan", plan},
	))
	r.result.Reason = Probed
	r.result.Message = fmt.Sprintf("would import %s of %s: %s", r.result.SourceFormat, length, plan)
	if i.size < 0 {
		r.result.Message += "; whether it fits shows during the import"
	}
	return nil
}

// plan is what would be done, in one line.
func (r *run) plan(i *inspected) string {
	switch i.way(r.options.TargetFormat) {
	case byPieces:
		return "read over several connections, each part straight to its place"
	case inOrder:
		return "read in the order of its bytes, straight to the target"
	case byTool:
		return fmt.Sprintf("check, then convert %s to %s where it is", i.image.Format, r.options.TargetFormat)
	}
	return fmt.Sprintf("download to %s, check, then convert %s to %s", r.options.ScratchDir, i.image.Format, r.options.TargetFormat)
}
