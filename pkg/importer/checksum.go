package importer

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
)

// Checksum is an expected digest of the bytes as served.
type Checksum struct {
	// Algorithm is sha256 or sha512.
	Algorithm string
	// Hex is the digest in lower case; empty when it is to be found out.
	Hex string
}

// unknown is the checksum of an image of which nobody has said it.
func unknown() Checksum { return Checksum{Algorithm: "sha256"} }

// matches tells whether sum, as ALG:HEX, is what was expected.
func (c Checksum) matches(sum string) bool { return c.Hex == "" || sum == c.String() }

// ParseChecksum reads ALG:HEX, where ALG is sha256 or sha512.
func ParseChecksum(text string) (Checksum, error) {
	algorithm, digits, found := strings.Cut(text, ":")
	c := Checksum{Algorithm: strings.ToLower(algorithm), Hex: strings.ToLower(digits)}
	if !found || c.New() == nil {
		return Checksum{}, errors.New("write sha256:HEX or sha512:HEX")
	}
	if sum, err := hex.DecodeString(c.Hex); err != nil || len(sum) != c.New().Size() {
		return Checksum{}, errors.New("the digits do not fit the algorithm: sha256 has 64 hexadecimal digits, sha512 has 128")
	}
	return c, nil
}

// New returns a hash of the algorithm, or nil when it is unknown.
func (c Checksum) New() hash.Hash {
	switch c.Algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// String writes ALG:HEX.
func (c Checksum) String() string { return c.Algorithm + ":" + c.Hex }
