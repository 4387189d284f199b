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
	length, size := "unknown", "unknown until all is read"
	if n := i.source.Size(); n >= 0 {
		length = fmt.Sprintf("%d bytes (%s)", n, Human(n))
	}
	if i.size >= 0 {
		size = fmt.Sprintf("%d bytes (%s)", i.size, Human(i.size))
	}
	plan := r.plan(i)
	r.report.table([][2]string{
		{"source", i.source.Name()},
		{"format", i.format},
		{"length", length},
		{"validator", validator},
		{"disk", size},
		{"target", fmt.Sprintf("%s, with room for %s", r.target, Human(r.target.Capacity()))},
		{"plan", plan},
	})
	r.result.Reason = Probed
	r.result.Message = fmt.Sprintf("would import %s of %s: %s", i.format, length, plan)
	if i.format == FormatQcow2 || r.options.TargetFormat == FormatQcow2 {
		if _, local := i.source.(localSource); !local && r.options.ScratchDir == "" {
			return &Error{Reason: ScratchRequired, Err: fmt.Errorf("converting %s to %s needs --scratch-dir, a directory with room for the image", i.format, r.options.TargetFormat)}
		}
	}
	return nil
}

// plan is what would be done, in one line.
func (r *run) plan(i *inspected) string {
	if i.format != FormatQcow2 && r.options.TargetFormat == FormatRaw {
		return "stream to the target"
	}
	if _, local := i.source.(localSource); local {
		return fmt.Sprintf("check, then convert %s to %s", i.format, r.options.TargetFormat)
	}
	return fmt.Sprintf("download to %s, check, then convert %s to %s", r.options.ScratchDir, i.format, r.options.TargetFormat)
}
