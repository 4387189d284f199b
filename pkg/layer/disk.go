package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Disk is the disk image in the layers of a container image, as it is stored: qcow2, raw, anything.
// One goroutine uses it.
type Disk struct {
	layers  []Layer
	options Options
	// records are what the layers say about the disk, as far as they were read.
	records []*record
	// at is the layer that the disk is in.
	at    int
	pass  *pass
	found found
	// err is what ended reading.
	err error
}

// Name is the path in the image, such as disk/disk.qcow2.
func (d *Disk) Name() string { return d.found.name }

// Size is the length in bytes.
func (d *Disk) Size() int64 { return d.found.size }

// Layer is the layer that the disk is in.
func (d *Disk) Layer() Layer { return d.layers[d.at] }

// Read fills p like an io.Reader. It gives io.EOF only when the whole layer was read, has the size
// and digest of the manifest, and the image has no other disk. When ctx ends in the middle, only
// Rewind helps.
func (d *Disk) Read(ctx context.Context, p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.pass.read(ctx, p)
	if err == io.EOF { //nolint:errorlint // read returns it bare
		err = d.end(ctx)
	}
	d.err = err
	return n, err
}

// Rewind makes Read begin again at the first byte. The layer is opened again and verified anew.
func (d *Disk) Rewind(ctx context.Context) error {
	d.pass.close()
	d.err = d.reopen(ctx)
	return d.err
}

// Close ends reading and waits for what works for it. Reads fail from then on.
func (d *Disk) Close() error {
	d.pass.close()
	d.err = os.ErrClosed
	return nil
}

// open reads the layer up to the disk, if there is one that the layers above show. Else it
// returns nil, and nothing is open.
func (d *Disk) open(ctx context.Context) (*found, error) {
	p, err := begin(ctx, d.layers[d.at], d.options)
	if err != nil {
		return nil, err
	}
	f, err := d.seek(ctx, p)
	if f == nil {
		p.close()
	}
	d.pass = p
	return f, err
}

func (d *Disk) seek(ctx context.Context, p *pass) (*found, error) {
	r := &record{}
	d.records[d.at] = r
	for {
		e, err := p.next(ctx)
		if err == io.EOF { //nolint:errorlint // next returns it bare
			return nil, nil //nolint:nilnil // no disk, and nothing wrong with the layer
		}
		if err != nil {
			return nil, err
		}
		if err := r.add(e); err != nil {
			return nil, p.explain(err)
		}
		if !e.isDisk() {
			continue
		}
		f, err := show(d.above())
		if err != nil && !isNoDisk(err) {
			return nil, p.explain(err)
		}
		if err == nil && f.layer == d.at {
			return &f, nil
		}
	}
}

// above are the records without those of the layers below the disk's, which it may hide yet.
func (d *Disk) above() []*record {
	above := make([]*record, len(d.records))
	copy(above[d.at:], d.records[d.at:])
	return above
}

func isNoDisk(err error) bool {
	var refused *refusal.Error
	return errors.As(err, &refused) && refused.Reason() == refusal.NoDisk
}

// reopen reads the layer up to the disk that is known.
func (d *Disk) reopen(ctx context.Context) error {
	f, err := d.open(ctx)
	if err == nil && (f == nil || *f != d.found) {
		d.pass.close()
		err = refusal.New(refusal.DigestMismatch, fmt.Sprintf("reading layer %s: its bytes changed since they were read first: compare with another registry", d.Layer().Name))
	}
	return err
}

// end reads what follows the disk. The error is io.EOF when all is well.
func (d *Disk) end(ctx context.Context) error {
	for {
		e, err := d.pass.next(ctx)
		if err == io.EOF { //nolint:errorlint // next returns it bare
			break
		}
		if err != nil {
			return err
		}
		if err := d.records[d.at].add(e); err != nil {
			return d.pass.explain(err)
		}
	}
	visible, err := show(d.records)
	if err != nil {
		return err
	}
	if visible != d.found {
		return corrupt("the layer %s has %q twice: build the image again", d.Layer().Name, d.found.name)
	}
	return io.EOF
}
