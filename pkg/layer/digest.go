package layer

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// digest is a running hash and what it must come to.
type digest struct {
	hash.Hash
	want string
}

// newDigest takes the algorithms that image manifests use (OCI image-spec, descriptor.md).
func newDigest(want string) (*digest, error) {
	algorithm, sum, _ := strings.Cut(want, ":")
	d := &digest{want: sum}
	switch algorithm {
	case "sha256":
		d.Hash = sha256.New()
	case "sha512":
		d.Hash = sha512.New()
	default:
		return nil, tooMuch("the digest %.80q is of no known kind: use sha256 or sha512", want)
	}
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != d.Size() || sum != strings.ToLower(sum) {
		return nil, corrupt("the digest %.200q is none: push the image again", want)
	}
	return d, nil
}

// check compares after the last byte.
func (d *digest) check() error {
	if got := hex.EncodeToString(d.Sum(nil)); got != d.want {
		return refusal.New(refusal.DigestMismatch, fmt.Sprintf("the bytes served have the digest %s, the manifest says %s: compare with another registry, or push the image again", got, d.want))
	}
	return nil
}
