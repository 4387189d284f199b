package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of processor time in /proc, in seconds: the same on all Linux machines.
const clockTick = 0.01

// servers serve the forms of the disk: nginx as fast as it can, and a server of our own that
// limits each connection.
type servers struct {
	nginx   *exec.Cmd
	slow    *http.Server
	urls    map[string]string
	workDir string
}

func startServers(ctx context.Context, root string) (*servers, error) {
	work, err := os.MkdirTemp("", "gild-bench-nginx")
	if err != nil {
		return nil, err
	}
	s := &servers{workDir: work, urls: map[string]string{}}
	if err := s.start(ctx, root); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *servers) start(ctx context.Context, root string) error {
	slow, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("starting the limited server: %w", err)
	}
	s.urls[limited] = "http://" + slow.Addr().String() + "/"
	s.slow = &http.Server{Handler: withETag(root), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.slow.Serve(bucketListener{slow, limitedRate}) }()

	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("finding a port for nginx: %w", err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return fmt.Errorf("finding a port for nginx: %w", err)
	}
	config := fmt.Sprintf(`daemon off; user root; pid %[1]s/pid; error_log stderr error; worker_processes auto; events {}
http { access_log off; default_type application/octet-stream; sendfile on; tcp_nopush on;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[3]s; } }
`, s.workDir, address, root)
	path := filepath.Join(s.workDir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	s.nginx = exec.CommandContext(ctx, "nginx", "-e", "stderr", "-p", s.workDir, "-c", path)
	s.nginx.Stderr = os.Stderr
	s.nginx.Cancel = func() error { return s.nginx.Process.Signal(syscall.SIGTERM) }
	if err := s.nginx.Start(); err != nil {
		return fmt.Errorf("starting nginx: %w", err)
	}
	s.urls[loopback] = "http://" + address + "/"
	if err := answers(ctx, address); err != nil {
		return fmt.Errorf("starting nginx: %w", err)
	}
	return nil
}

func (s *servers) stop() error {
	var err error
	if s.slow != nil {
		err = s.slow.Close()
	}
	if s.nginx != nil && s.nginx.Process != nil {
		err = errors.Join(err, s.nginx.Process.Signal(syscall.SIGTERM))
		_ = s.nginx.Wait()
	}
	return errors.Join(err, os.RemoveAll(s.workDir))
}

// cpu is the processor time that the server of a link has used, in seconds.
func (s *servers) cpu(link string) (float64, error) {
	if link == limited {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return 0, fmt.Errorf("reading our own processor time: %w", err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds(), nil
	}
	pid := s.nginx.Process.Pid
	workers, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, fmt.Errorf("reading nginx's processor time: %w", err)
	}
	var sum float64
	for _, worker := range strings.Fields(string(workers)) {
		pid, err := strconv.Atoi(worker)
		if err != nil {
			return 0, fmt.Errorf("reading nginx's processor time: %w", err)
		}
		used, err := processCPU(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// processCPU is the processor time that a process has used, in seconds.
func processCPU(pid int) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading a server's processor time: %w", err)
	}
	var sum float64
	// Behind the name in brackets, the 12th and 13th field are the times.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, fmt.Errorf("reading a server's processor time: %w", err)
		}
		sum += ticks * clockTick
	}
	return sum, nil
}

// withETag serves the files of a folder with ranges and a strong ETag, as nginx does.
func withETag(root string) http.Handler {
	files := http.FileServer(http.Dir(root))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if info, err := os.Stat(filepath.Join(root, filepath.Base(r.URL.Path))); err == nil {
			w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().Unix(), info.Size()))
		}
		files.ServeHTTP(w, r)
	})
}
