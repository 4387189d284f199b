package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gild-project/gild/pkg/source"
)

func benchSite(b *testing.B, body []byte) string {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkRead reads 256 MiB in order over loopback; the server shares the processors.
func BenchmarkRead(b *testing.B) {
	body := bytes.Repeat(random(16*mib), 16)
	url := benchSite(b, body)
	for _, connections := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			p := make([]byte, mib)
			for b.Loop() {
				image, err := source.Open(b.Context(), url, source.Options{Connections: connections})
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = image.Read(b.Context(), p)
				}
				if !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
				if err := image.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadAt reads 256 MiB in pieces of 1 MiB from as many goroutines as connections.
func BenchmarkReadAt(b *testing.B) {
	body := bytes.Repeat(random(16*mib), 16)
	url := benchSite(b, body)
	for _, connections := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			image, err := source.Open(b.Context(), url, source.Options{Connections: connections})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = image.Close() })
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				readPieces(b.Context(), b, image, connections)
			}
		})
	}
}

func readPieces(ctx context.Context, b *testing.B, image source.Image, workers int) {
	b.Helper()
	offsets := make(chan int64)
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			p := make([]byte, mib)
			for off := range offsets {
				if _, err := image.ReadAt(ctx, p, off); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for off := int64(0); off < image.Size(); off += mib {
		offsets <- off
	}
	close(offsets)
	wait.Wait()
}
