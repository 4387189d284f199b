package source_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// sparse is what an image with holes offers.
type sparse interface {
	NextData(off int64) int64
}

// newSparseSite is a server that says of its image where it has data.
func newSparseSite(t *testing.T, offered string, answer http.HandlerFunc) *site {
	t.Helper()
	s := newSite(t, random(3*mib))
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/extents" {
			answer(w, r)
			return true
		}
		w.Header().Set("Gild-Extents", offered)
		return false
	}
	return s
}

func extents(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"one"`)
		_, _ = io.WriteString(w, text)
	}
}

// asked counts the requests for a path.
func (s *site) asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

func TestExtents(t *testing.T) {
	for text, want := range map[string]map[int64]int64{
		`{"size":3145728,"extents":[[0,10],[4096,4096],[3145720,8]]}`: {
			0: 0, 9: 9, 10: 4096, 4095: 4096, 4096: 4096, 8191: 8191, 8192: 3145720, 3145727: 3145727, 3145728: 3145728,
		},
		`{"size":3145728,"extents":[[4096,4096]]}`:    {0: 4096, 8192: 3145728},
		`{"size":3145728,"extents":[[0,10],[10,10]]}`: {0: 0, 10: 10, 19: 19, 20: 3145728},
		`{"size":3145728,"extents":[]}`:               {0: 3145728},
		`{"size":3145728,"extents":[[0,3145728]]}`:    {0: 0, 3145727: 3145727},
	} {
		t.Run(text, func(t *testing.T) {
			s := newSparseSite(t, "/extents", extents(text))
			o := options(newClock())
			o.Extents = true
			o.Credentials = source.Authorized("Bearer " + canary)
			image := open(t, s.url(), o)
			for off, next := range want {
				require.Equal(t, next, image.(sparse).NextData(off), "from %d", off)
			}
			require.Equal(t, int64(3*mib), image.Size())
			s.mu.Lock()
			defer s.mu.Unlock()
			last := s.requests[len(s.requests)-1]
			require.Equal(t, "/extents", last.URL.Path)
			require.Empty(t, last.URL.RawQuery, "the query is of the image")
			require.Equal(t, "Bearer "+canary, last.Header.Get("Authorization"))
			require.Equal(t, `"one"`, last.Header.Get("If-Match"))
		})
	}
}

// TestExtentsThatAreNotBelieved: whatever a server says, the whole image is read then.
func TestExtentsThatAreNotBelieved(t *testing.T) {
	good := `{"size":3145728,"extents":[[4096,4096]]}`
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, good)
		}
	}
	for name, c := range map[string]struct {
		offered string
		answer  http.HandlerFunc
		says    string
		// asked is how often the extents are asked for.
		asked int
	}{
		"larger disk":     {answer: extents(`{"size":9000000,"extents":[[4096,4096]]}`), says: "3145728", asked: 1},
		"smaller disk":    {answer: extents(`{"size":4096,"extents":[[0,4096]]}`), says: "3145728", asked: 1},
		"no list":         {answer: extents(`{"size":3145728}`), says: "bytes", asked: 1},
		"no JSON":         {answer: extents("<html>"), says: "JSON", asked: 1},
		"two answers":     {answer: extents(good + good), says: "JSON", asked: 1},
		"too many digits": {answer: extents(`{"size":3145728,"extents":[[99999999999999999999,1]]}`), says: "JSON", asked: 1},
		"one number":      {answer: extents(`{"size":3145728,"extents":[[4096]]}`), says: "two numbers", asked: 1},
		"three numbers":   {answer: extents(`{"size":3145728,"extents":[[4096,4096,8192]]}`), says: "two numbers", asked: 1},
		"no number":       {answer: extents(`{"size":3145728,"extents":[[null,4096]]}`), says: "two numbers", asked: 1},
		"behind the end":  {answer: extents(`{"size":3145728,"extents":[[3145728,1]]}`), says: "outside", asked: 1},
		"over the end":    {answer: extents(`{"size":3145728,"extents":[[3145720,9]]}`), says: "outside", asked: 1},
		"overflow":        {answer: extents(`{"size":3145728,"extents":[[4096,9223372036854775807]]}`), says: "outside", asked: 1},
		"negative":        {answer: extents(`{"size":3145728,"extents":[[-4096,8192]]}`), says: "out of order", asked: 1},
		"empty run":       {answer: extents(`{"size":3145728,"extents":[[4096,0]]}`), says: "out of order", asked: 1},
		"backwards run":   {answer: extents(`{"size":3145728,"extents":[[4096,-4096]]}`), says: "out of order", asked: 1},
		"out of order":    {answer: extents(`{"size":3145728,"extents":[[8192,4096],[0,4096]]}`), says: "out of order", asked: 1},
		"overlap":         {answer: extents(`{"size":3145728,"extents":[[0,8192],[4096,8192]]}`), says: "out of order", asked: 1},
		"endless": {answer: func(w http.ResponseWriter, r *http.Request) {
			extents(`{"size":3145728,"extents":[`+strings.Repeat("[0,1],", 1<<18))(w, r)
		}, says: "1 MiB", asked: 1},
		"another revision": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"two"`)
			_, _ = io.WriteString(w, good)
		}, says: "revision", asked: 1},
		"no revision":    {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, good) }, says: "revision", asked: 1},
		"redirect":       {answer: status(http.StatusFound), asked: 1, says: "302"},
		"gone":           {answer: status(http.StatusNotFound), asked: 1, says: "404"},
		"busy":           {answer: status(http.StatusServiceUnavailable), asked: 3, says: "503"},
		"another host":   {offered: "https://evil.example.org/extents", answer: extents(good), says: "not its own"},
		"host in a path": {offered: "//evil.example.org/extents", answer: extents(good), says: "not its own"},
		"relative":       {offered: "extents", answer: extents(good), says: "not its own"},
		"no URL":         {offered: "/%zz", answer: extents(good), says: "not its own"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.offered == "" {
				c.offered = "/extents"
			}
			s := newSparseSite(t, c.offered, c.answer)
			var told strings.Builder
			o := options(newClock())
			o.Extents = true
			o.Notice = func(message string) { fmt.Fprintln(&told, message) }
			image := open(t, s.url(), o)
			for _, off := range []int64{0, 5000, 3 * mib} {
				require.Equal(t, off, image.(sparse).NextData(off))
			}
			got, err := readAll(t.Context(), image, mib)
			require.NoError(t, err)
			require.Equal(t, s.body, got)
			require.Contains(t, told.String(), "reading all of")
			require.Contains(t, told.String(), c.says)
			require.NotContains(t, told.String(), canary)
			require.Equal(t, c.asked, s.asked("/extents"))
			require.Zero(t, s.asked("/elsewhere"))
		})
	}
}

func TestExtentsAreNotAskedFor(t *testing.T) {
	good := extents(`{"size":3145728,"extents":[[4096,4096]]}`)
	for name, change := range map[string]func(s *site, o *source.Options){
		"not wanted": func(_ *site, o *source.Options) { o.Extents = false },
		"weak ETag":  func(s *site, _ *source.Options) { s.etag = `W/"one"` },
		"no ETag":    func(s *site, _ *source.Options) { s.etag = "" },
		"addressed":  func(_ *site, o *source.Options) { o.Addressed = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSparseSite(t, "/extents", good)
			o := options(newClock())
			o.Extents = true
			change(s, &o)
			image := open(t, s.url(), o)
			require.Equal(t, int64(5), image.(sparse).NextData(5))
			require.Zero(t, s.asked("/extents"))
		})
	}
	t.Run("behind a redirect", func(t *testing.T) {
		s := newSparseSite(t, "/extents", good)
		first := newSite(t, nil)
		first.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, s.URL+"/disk.img", http.StatusFound)
			return true
		}
		o := options(newClock())
		o.Extents = true
		image := open(t, first.url(), o)
		require.Equal(t, int64(5), image.(sparse).NextData(5))
		require.Zero(t, s.asked("/extents"))
		require.Zero(t, first.asked("/extents"))
	})
}
