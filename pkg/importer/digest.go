package importer

import (
	"encoding/hex"
	"hash"
)

// digest is one running hash with its name.
type digest struct {
	hash.Hash
	algorithm string
}

func (d digest) sum() string { return d.algorithm + ":" + hex.EncodeToString(d.Sum(nil)) }

type hashes []digest

// newHashes makes one hash for each expected checksum.
func newHashes(expected []Checksum) hashes {
	var all hashes
	for _, c := range expected {
		all = append(all, digest{c.New(), c.Algorithm})
	}
	return all
}

func (h hashes) write(p []byte) {
	for _, d := range h {
		// A hash never returns an error.
		_, _ = d.Write(p)
	}
}

// equal tells whether two hashes saw the same bytes.
func (h hashes) equal(other hashes) bool {
	for n := range h {
		if h[n].sum() != other[n].sum() {
			return false
		}
	}
	return true
}
