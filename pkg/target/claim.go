package target

import "fmt"

// claimSize is the size of a claim of the mode Filesystem that holds a raw disk of size bytes
// on ext4 as mkfs makes it by default, the hungriest of the usual file systems: 5 % reserved
// for root, inode tables of 1.6 % (6.3 % below 512 MiB), group descriptors with room to
// grow, and the journal. A test makes such file systems and fills them.
func claimSize(size int64) int64 {
	data := size + size/1024 + 1<<20
	percent := int64(92)
	if data < 460<<20 {
		percent = 86
	}
	return roundUp((data+journal(data))*100/percent, 1<<20)
}

// journal follows ext2fs_default_journal_size of e2fsprogs 1.47 by the size of the file
// system, one step early because the file system is larger than its data.
func journal(data int64) int64 {
	const mib, gib = 1 << 20, 1 << 30
	switch {
	case data < 100*mib:
		return 4 * mib
	case data < 900*mib:
		return 16 * mib
	case data < 1800*mib:
		return 32 * mib
	case data < 14*gib:
		return 64 * mib
	case data < 28*gib:
		return 128 * mib
	case data < 58*gib:
		return 256 * mib
	case data < 116*gib:
		return 512 * mib
	}
	return 1024 * mib
}

// quantity writes bytes as Kubernetes does, rounded up to what people would write.
func quantity(n int64) string {
	const mib, gib = 1 << 20, 1 << 30
	if n >= 10*gib {
		return fmt.Sprintf("%dGi", roundUp(n, gib)/gib)
	}
	return fmt.Sprintf("%dMi", roundUp(n, mib)/mib)
}
