package target

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alignment is what direct I/O asks for, in bytes. offset 0 means that there is none.
type alignment struct{ memory, offset int64 }

// alignmentOf asks the kernel (statx, since Linux 6.1), else assumes the largest usual one.
func alignmentOf(f *os.File) (alignment, error) {
	var s unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &s); err == nil && s.Mask&unix.STATX_DIOALIGN != 0 {
		return alignment{int64(s.Dio_mem_align), int64(s.Dio_offset_align)}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return alignment{}, err
	}
	if info.Mode().IsRegular() {
		return alignment{block, block}, nil
	}
	logical, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return alignment{}, err
	}
	return alignment{block, int64(logical)}, nil
}

// setDirect turns direct I/O on or off on the same descriptor.
func setDirect(f *os.File, on bool) error {
	old, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	flags := old &^ unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	if flags == old {
		return nil
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return err
}

// alignedBuffer returns n bytes at an address that is a multiple of align.
func alignedBuffer(n int, align int64) []byte {
	buffer := make([]byte, int64(n)+align)
	skip := (align - int64(uintptr(unsafe.Pointer(&buffer[0])))%align) % align //nolint:gosec // direct I/O asks for addresses
	return buffer[skip : skip+int64(n)]
}

func aligned(p []byte, align int64) bool {
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))%align == 0 //nolint:gosec // direct I/O asks for addresses
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
