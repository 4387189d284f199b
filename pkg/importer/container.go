package importer

import (
	"context"
	"fmt"
)

// opening tells the reporter what happens while a source is opened.
func (r *run) opening() Opening {
	return Opening{Notice: r.report.notice, Prepare: r.report.opened}
}

// learn takes what a source tells of where it was found, and what its bytes must be.
func (r *run) learn(source Source) {
	r.origin = Origin{}
	if found, ok := source.(interface{ Origin() Origin }); ok {
		r.origin = found.Origin()
	}
	r.result.Content, r.result.Digest = r.origin.Content, r.origin.Digest
	r.report.scratch(r.origin.ScratchBytes)
	r.expected = expectedChecksums(r.options, r.origin)
}

// expectedChecksums are those that the bytes of the source must have; the first one is reported. The
// pinned digest of a container image is its manifest's: whoever opened the source has compared it.
func expectedChecksums(o Options, found Origin) []Checksum {
	texts := []string{o.Checksum, o.Pin.Digest}
	if o.Container() {
		texts = []string{found.Expected}
	}
	var all []Checksum
	for _, text := range texts {
		// What Validate has seen can be parsed, and an empty text cannot.
		if c, err := ParseChecksum(text); err == nil {
			all = append(all, c)
		}
	}
	if o.Digest && !o.Container() && (len(all) == 0 || all[0].Algorithm != unknown().Algorithm) {
		all = append([]Checksum{unknown()}, all...)
	}
	return all
}

// files brings the files of a container image, which need neither a format nor a target of ours.
func (r *run) files(ctx context.Context) error {
	r.report.pass()
	found, err := r.parts.Unpack(ctx, r.opening(), r.report.wrote)
	if err != nil {
		return err
	}
	r.result.Content, r.result.Digest = found.Content, found.Digest
	if r.options.DryRun {
		r.report.table(append(found.Rows, [2]string{"target", r.options.Target}, [2]string{"plan", "write its files"}))
		r.result.Reason, r.result.Message = Probed, "would write the files of the image"
		return nil
	}
	r.result.Reason = Imported
	r.result.Message = fmt.Sprintf("wrote the files of the image, %s", Human(r.report.written()))
	return nil
}
