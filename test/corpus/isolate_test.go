//go:build corpus

package corpus

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// smallVolume is the size of the volume that large disks do not fit on.
	smallVolume = 512 << 20
	// metadataService is an address that images name; it is on our own loopback here.
	metadataService = "169.254.169.254"
)

// canaryFiles are files of the machine that images name. Stand-ins take their places.
var canaryFiles = []string{"/etc/passwd", "/etc/shadow", "/dev/zero"}

// isolate readies the name spaces this program was started in: dir at home, small and large
// volumes, stand-ins for files that images name, and a loopback.
func isolate(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("parting the mounts: %w", err)
	}
	if err := unix.Mount(dir, home, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the corpus: %w", err)
	}
	for name, size := range map[string]int64{"small": smallVolume, "roomy": 16 << 40} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
			return fmt.Errorf("mounting the volume %s: %w", name, err)
		}
	}
	for _, path := range canaryFiles {
		standIn := canaryPath(path)
		if err := os.MkdirAll(filepath.Dir(standIn), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(standIn, []byte("root:x:0:0:canary:/root:/bin/bash\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(standIn, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting a canary at %s: %w", path, err)
		}
	}
	return loopback()
}

func canaryPath(path string) string { return filepath.Join(home, "canaries", path) }

// loopback starts the loopback device and gives it the address of the metadata service.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("starting the loopback: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("starting the loopback: %w", err)
	}
	address, err := unix.NewIfreq("lo:0")
	if err != nil {
		return err
	}
	if err := address.SetInet4Addr([]byte{169, 254, 169, 254}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFADDR, address); err != nil {
		return fmt.Errorf("giving the loopback %s: %w", metadataService, err)
	}
	return nil
}
