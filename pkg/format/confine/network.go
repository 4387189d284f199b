package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	seccompNumber = 0
	seccompArch   = 4
	// x32 is the bit of a second set of system calls on amd64, which must not be a way round.
	x32 = 0x40000000
)

// denyNetwork takes from the calling thread, and from every program it starts, the right to
// open sockets of any kind. It cannot be given back: the thread must end with its goroutine.
// A tool that parses a stranger's image has nothing to say to anybody.
func denyNetwork() error {
	arch, known := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !known {
		return fmt.Errorf("no filter for %s", runtime.GOARCH)
	}
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	deny := end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	// skip jumps over the denial that follows it when the loaded value passes.
	skip := func(test uint16, value uint32, passes bool) unix.SockFilter {
		f := unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jf: 1, K: value}
		if passes {
			f.Jt, f.Jf = f.Jf, f.Jt
		}
		return f
	}
	filter := []unix.SockFilter{
		load(seccompArch), skip(unix.BPF_JEQ, arch, true), deny,
		load(seccompNumber), skip(unix.BPF_JGE, x32, false), deny,
		skip(unix.BPF_JEQ, unix.SYS_SOCKET, false), deny,
		// io_uring opens sockets past this filter.
		skip(unix.BPF_JEQ, unix.SYS_IO_URING_SETUP, false), deny,
		end(unix.SECCOMP_RET_ALLOW),
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}                                                    //nolint:gosec // a dozen instructions
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil { //nolint:gosec // the kernel takes an address
		return fmt.Errorf("installing the system call filter: %w", err)
	}
	runtime.KeepAlive(filter)
	return nil
}
