package server

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gild-project/gild/test/imageserver/disk"
)

// File says what is served at one path and how the server misbehaves while it does.
// Its zero value is an empty file served well.
type File struct {
	// Disk is made from its seed as it is read.
	Disk *disk.Disk `json:"disk,omitempty"`
	// Blob names uploaded bytes.
	Blob string `json:"blob,omitempty"`
	// Text is served as it stands.
	Text string `json:"text,omitempty"`

	// ContentType of the answer; the default is application/octet-stream.
	ContentType string `json:"contentType,omitempty"`
	// NoETag leaves the ETag out; otherwise it is a strong one that changes with the content.
	NoETag bool `json:"noETag,omitempty"`
	// NoLastModified leaves that out.
	NoLastModified bool `json:"noLastModified,omitempty"`
	// Headers are added to every answer.
	Headers map[string]string `json:"headers,omitempty"`

	// Need are request headers without which the answer is 401.
	Need map[string]string `json:"need,omitempty"`
	// Status is answered in place of the file, StatusTimes times or for ever when that is 0.
	Status      int `json:"status,omitempty"`
	StatusTimes int `json:"statusTimes,omitempty"`
	// RedirectTo is the URL answered with status 302.
	RedirectTo string `json:"redirectTo,omitempty"`

	// NoRange ignores the Range header, as plain servers do.
	NoRange bool `json:"noRange,omitempty"`
	// CutAfter ends a connection after so many bytes of a body, CutTimes times or for
	// ever when that is 0. Reset ends it with a TCP reset.
	CutAfter int64 `json:"cutAfter,omitempty"`
	CutTimes int   `json:"cutTimes,omitempty"`
	Reset    bool  `json:"reset,omitempty"`
	// AfterCut is served in place of this file once CutTimes is used up.
	AfterCut *File `json:"afterCut,omitempty"`
	// BytesPerSecond bounds all bodies together, however many connections they use.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// HoldAfter stops every body once so many bytes were served in all of them, until the file
	// is published again.
	HoldAfter int64 `json:"holdAfter,omitempty"`
}

// published is a File at its path, with what changes while it is served. Its fields
// but File, etag, modified, replaced and flow belong to the Server's mutex.
type published struct {
	File
	etag     string
	modified time.Time
	// replaced is closed when the path is published again.
	replaced chan struct{}
	flow     flow
	statuses int
}

// same reports whether two files hold the same bytes, whatever their faults.
func (f File) same(other File) bool {
	if (f.Disk == nil) != (other.Disk == nil) || f.Disk != nil && *f.Disk != *other.Disk {
		return false
	}
	return f.Blob == other.Blob && f.Text == other.Text
}

// missing reports the first header that the file needs and request lacks.
func (f File) missing(request *http.Request) (string, bool) {
	for name, value := range f.Need {
		if request.Header.Get(name) != value {
			return name, true
		}
	}
	return "", false
}

// open opens the content; blobs live in dir. It returns the content's length too.
func (f File) open(dir string) (io.ReaderAt, int64, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case f.Disk != nil:
		return *f.Disk, f.Disk.Size, nothing, nil
	case f.Blob != "":
		file, err := os.Open(blobPath(dir, f.Blob))
		if err != nil {
			return nil, 0, nothing, fmt.Errorf("opening a blob: %w", err)
		}
		info, err := file.Stat()
		if err != nil {
			_ = file.Close()
			return nil, 0, nothing, fmt.Errorf("measuring a blob: %w", err)
		}
		return file, info.Size(), file.Close, nil
	default:
		return strings.NewReader(f.Text), int64(len(f.Text)), nothing, nil
	}
}

// blobPath is where the blob of a name is kept: one flat file, whatever the name.
func blobPath(dir, name string) string {
	return filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
}
