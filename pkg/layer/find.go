package layer

import (
	"context"
	"io"
	"slices"
)

// Find opens the disk of an image: the one regular file below disk/ that is visible when the layers,
// the lowest first, lie on each other. Every layer that has a say is read to its end and verified,
// the largest last. When the disk is in that one, it is handed out as soon as it comes, and what
// follows is checked before Disk.Read ends.
//
// Without a disk the error is a refusal with the reason NoDisk; there are others for
// images that are refused. Errors of Layer.Open and Blob.Read come out wrapped.
func Find(ctx context.Context, layers []Layer, o Options) (*Disk, error) {
	d := &Disk{layers: slices.Clone(layers), options: o, records: make([]*record, len(layers))}
	d.at = largest(layers)
	covered := false
	for i := len(layers) - 1; i >= 0 && !covered; i-- {
		if i == d.at {
			continue
		}
		r, err := scan(ctx, layers[i], o)
		if err != nil {
			return nil, err
		}
		d.records[i] = r
		if covered = r.covers(); covered && i > d.at {
			d.at = -1 // nothing of the largest is visible
		}
	}
	if d.at >= 0 {
		f, err := d.open(ctx)
		if err != nil {
			return nil, err
		}
		if f != nil {
			d.found = *f
			return d, nil
		}
	}
	// All layers are known now.
	f, err := show(d.records)
	if err != nil {
		return nil, err
	}
	d.at, d.found = f.layer, f
	if err := d.reopen(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// largest is the layer with the most bytes, -1 without layers.
func largest(layers []Layer) int {
	at := -1
	for i, l := range layers {
		if at < 0 || l.Size >= layers[at].Size {
			at = i
		}
	}
	return at
}

// scan reads a whole layer for what it says about the disk.
func scan(ctx context.Context, l Layer, o Options) (*record, error) {
	p, err := begin(ctx, l, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	r := &record{}
	for {
		e, err := p.next(ctx)
		if err == io.EOF { //nolint:errorlint // next returns it bare
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		if err := r.add(e); err != nil {
			return nil, p.explain(err)
		}
	}
}
