package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

const (
	// headerExtents is how `importer serve` says where its extents are.
	headerExtents = "Gild-Extents"
	// maxExtents bounds the answer, in bytes.
	maxExtents = 1 << 20
)

// extent is a run of bytes that may be data; to is behind the last one.
type extent struct{ from, to int64 }

// NextData returns the first place at or behind off that may have data, the size if there is none.
func (i *httpImage) NextData(off int64) int64 {
	if i.data == nil {
		return off
	}
	n, inside := slices.BinarySearchFunc(i.data, off, func(e extent, off int64) int {
		switch {
		case e.to <= off:
			return -1
		case e.from > off:
			return 1
		}
		return 0
	})
	switch {
	case inside:
		return off
	case n < len(i.data):
		return i.data[n].from
	}
	return i.size
}

// learnExtents asks where the image has data, if the server offers that and the caller wants it.
// Without an answer all of the image is read: that costs time and nothing else.
func (i *httpImage) learnExtents(ctx context.Context) {
	if !i.options.Extents || i.offered == "" || !i.Ranged() || !strong(i.revision.ETag) {
		return
	}
	b := &brief{client: i.client, options: i.options}
	b.options.OpenTries = briefTries
	err := b.try(ctx, func() (err error) {
		i.data, err = i.askExtents(ctx)
		return err
	})
	if err != nil && ctx.Err() == nil {
		i.data = nil
		i.options.Notice(fmt.Sprintf("reading all of %s, with its holes: %v", i.Name(), err))
	}
}

// askExtents makes one try. The answer must come from the server that the user named, and be
// of the revision that was opened.
func (i *httpImage) askExtents(ctx context.Context) ([]extent, error) {
	at, err := i.client.origin(i.offered)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := i.client.afterFunc(i.options.StallTimeout, cancel)
	defer timer.Stop()
	q := newQuestion(http.MethodGet)
	q.header.Set("If-Match", i.revision.ETag)
	// A redirect is not followed: it ends as a status that is not 200.
	r, err := i.client.authorized(ctx, at, q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }()
	if err := checkStatus(at.url, r, i.options.Clock.Now()); err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK || r.Header.Get("ETag") != i.revision.ETag || encoding(r) != "" {
		return nil, fail(SourceRefused, name(at.url)+" does not answer for the revision that was opened")
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxExtents+1))
	if err != nil {
		return nil, failBy(ConnectionFailed, "reading "+name(at.url), plain(err))
	}
	data, err := parseExtents(text, i.size)
	if err != nil {
		return nil, failBy(SourceRefused, "reading "+name(at.url), err)
	}
	return data, nil
}

// origin is a place on the server of the user's URL, given as a path. It fails when the image was
// found elsewhere.
func (c *client) origin(path string) (hop, error) {
	c.mu.Lock()
	place := c.place
	c.mu.Unlock()
	to, err := c.start.url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || !sameOrigin(c.start.url, to) || !place.secrets {
		return hop{}, fail(SourceRefused, "the server offers extents that are not its own")
	}
	to.User, to.Fragment = nil, ""
	return hop{url: to, secrets: true}, nil
}

// parseExtents reads what the server says of an image of size bytes: runs in order, inside of
// it, none of them empty and none over another.
func parseExtents(text []byte, size int64) ([]extent, error) {
	if len(text) > maxExtents {
		return nil, errors.New("the extents are larger than 1 MiB")
	}
	var answer struct {
		Size int64 `json:"size"`
		// An array would take any number of numbers, and none for 0: a run that is misread hides data.
		Extents [][]*int64 `json:"extents"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, errors.New("the extents are no JSON of the expected form")
	}
	if answer.Size != size || answer.Extents == nil {
		return nil, fmt.Errorf("the extents are of a disk of %d bytes and not %d", answer.Size, size)
	}
	data, end := make([]extent, 0, len(answer.Extents)), int64(0)
	for _, e := range answer.Extents {
		if len(e) != 2 || e[0] == nil || e[1] == nil {
			return nil, errors.New("an extent is not two numbers")
		}
		from, length := *e[0], *e[1]
		if from < end || length <= 0 || from > size || length > size-from {
			return nil, fmt.Errorf("the extent of %d bytes at byte %d is out of order or outside of the disk", length, from)
		}
		end = from + length
		data = append(data, extent{from, end})
	}
	return data, nil
}
