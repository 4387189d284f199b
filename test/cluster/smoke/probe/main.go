// Package main runs inside the pods of the smoke test and says what works there.
// Each line of its output is a finding.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// limit is how long a connection or a look-up may take.
const limit = 3 * time.Second

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: probe (serve ADDRESS | dial ADDRESS... | resolve NAME... | write FOLDER DEVICE | fill FOLDER | put SEED PATH... | sum LENGTH PATH...)")
	}
	switch args[0] {
	case "serve":
		server := &http.Server{Addr: args[1], ReadHeaderTimeout: limit, Handler: http.NotFoundHandler()}
		return server.ListenAndServe()
	case "dial":
		return each(out, args[1:], func(address string) string { return dial(ctx, address) })
	case "resolve":
		return each(out, args[1:], func(name string) string { return resolve(ctx, name) })
	case "fill":
		return fill(out, args[1])
	case "put":
		return each(out, args[2:], func(path string) string { return described(put(path, args[1])) })
	case "sum":
		return each(out, args[2:], func(path string) string { return described(sum(path, args[1])) })
	case "write":
		return write(out, args[1], args[len(args)-1])
	}
	return fmt.Errorf("no such command: %s", args[0])
}

func each(out io.Writer, names []string, find func(string) string) error {
	for _, name := range names {
		if _, err := fmt.Fprintf(out, "%s %s\n", name, find(name)); err != nil {
			return err
		}
	}
	return nil
}

// dial tries until the limit: a service that was just made refuses at first.
func dial(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for ctx.Err() == nil {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			time.Sleep(limit / 30)
			continue
		}
		if err := connection.Close(); err != nil {
			return err.Error()
		}
		return "open"
	}
	return "closed"
}

func resolve(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if missing := new(net.DNSError); errors.As(err, &missing) && missing.IsNotFound {
		return "none"
	}
	if err != nil {
		return err.Error()
	}
	slices.Sort(addresses)
	return strings.Join(addresses, ",")
}

// write proves that a restricted pod can use both kinds of volumes.
func write(out io.Writer, folder, device string) error {
	content := bytes.Repeat([]byte("gild"), 1<<10)
	for _, path := range []string{filepath.Join(folder, "disk.img"), device} {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_SYNC, 0o660)
		if err != nil {
			return err
		}
		if _, err := file.Write(content); err != nil {
			return err
		}
		read := make([]byte, len(content))
		if _, err := file.ReadAt(read, 0); err != nil {
			return err
		}
		end, err := file.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s same=%t size=%d\n", path, bytes.Equal(content, read), end); err != nil {
			return err
		}
	}
	err := os.WriteFile("/written", nil, 0o600)
	_, err = fmt.Fprintf(out, "user=%d group=%d root-is-read-only=%t\n", os.Getuid(), os.Getgid(), errors.Is(err, syscall.EROFS))
	return err
}

// fill writes until the volume is full.
func fill(out io.Writer, folder string) error {
	file, err := os.Create(filepath.Join(folder, "big"))
	if err != nil {
		return err
	}
	chunk := bytes.Repeat([]byte{1}, 1<<20)
	written := 0
	for {
		n, err := file.Write(chunk)
		written += n
		if errors.Is(err, syscall.ENOSPC) {
			_, err := fmt.Fprintf(out, "full after %d MiB\n", written>>20)
			return err
		}
		if err != nil {
			return err
		}
	}
}
